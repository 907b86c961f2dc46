"""`browse` and `browse_…`: a headless Chromium that shows pages as text, with numbers on what can be clicked or filled.

By playwright (Apache-2.0) and this machine's Chromium (BSD-3): AWORLD_CHROMIUM, else `chromium` or `google-chrome` on
PATH. Scripts run; sounds, videos and drawings are not seen (take a screenshot), downloads and dialogs are dismissed.
"""

import asyncio
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from aworld.tools.common import internet, relay
from aworld.tools.common.result import Result, error, in_parts, made, write_new
from aworld.tools.common.server import ToolServer

MARK = "data-aworld"
SETTLES = 0.3
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# what would open in a window of its own opens here
ONE_WINDOW = """
window.open = (url) => { if (url) location.href = url; return window };
addEventListener("click", (event) => {
  const link = event.target.closest && event.target.closest("a[target]");
  if (link) link.removeAttribute("target");
}, true);
"""
VIEW = Path(__file__).with_name("view.js")
NO_TEXT = "ERR_HTTP_RESPONSE_CODE_FAILURE"  # what Chromium says of a 404 or 503 that comes without a page
STATUS = "performance.getEntriesByType('navigation')[0]?.responseStatus ?? 0"
NO_PAGE = "chrome-error:"  # begins the address of what Chromium shows where there is no page
# its reasons that another try meets again: what is no page, not allowed here, or leads round in circles
LASTING = ("ERR_ABORTED", "ERR_BLOCKED_BY_CLIENT", "ERR_TOO_MANY_REDIRECTS", "ERR_UNSAFE_PORT")


def seconds() -> float:
    """Time limit of one call, a start of Chromium included."""
    return float(os.environ.get("AWORLD_BROWSE_SECONDS", "20"))


class Browser:
    """One page of one Chromium, started when it is first needed."""

    def __init__(self) -> None:
        self._page: Any = None
        self.status = 0  # of the last answer to the page itself
        self._allowed: dict[str, bool] = {}

    async def page(self) -> Any:
        """The page of the browser, which is started where it does not run.

        Raises:
            WebError: there is no Chromium, or it does not start.
        """
        if self._page is not None:
            return self._page
        from playwright.async_api import Error, async_playwright

        program = os.environ.get("AWORLD_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise internet.WebError("no Chromium on PATH; set AWORLD_CHROMIUM to one")
        proxy, bypass = internet.proxy(), os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        if not proxy and not internet.is_private_allowed():
            proxy, bypass = await relay.start(), ""
        try:
            browser = await (await async_playwright().start()).chromium.launch(
                executable_path=program,
                chromium_sandbox=os.geteuid() != 0,  # Chromium refuses its own sandbox to root
                proxy={"server": proxy, "bypass": bypass} if proxy else None,
            )
        except Error as reason:
            raise internet.WebError(f"Chromium does not start: {_line(reason)}") from None
        context = await browser.new_context(
            accept_downloads=False, service_workers="block", viewport={"width": 1280, "height": 800}
        )
        await context.route("**/*", self._route)
        await context.route_web_socket("**/*", lambda socket: socket.close())
        await context.add_init_script(ONE_WINDOW)
        page = await context.new_page()
        page.on("response", self._heard)
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.dismiss()))
        page.set_default_timeout(600 * seconds())
        self._page = page
        return page

    def _heard(self, response: Any) -> None:
        if response.request.is_navigation_request() and response.frame.parent_frame is None:
            self.status = response.status

    async def _route(self, route: Any) -> None:
        url = route.request.url
        host = url.split("/")[2] if url.startswith("http") and url.count("/") > 1 else url
        if host not in self._allowed:
            try:
                await internet.check(url)
                self._allowed[host] = True
            except internet.WebError as reason:
                if reason.passing:  # the next time its name may be found
                    await route.abort("namenotresolved")
                    return
                self._allowed[host] = False
        await (route.continue_() if self._allowed[host] else route.abort("blockedbyclient"))


_browser = Browser()


async def browse(url: str) -> Result:
    async def go(page: Any) -> None:
        await internet.check(url)
        await page.goto(url, wait_until="domcontentloaded")

    return await _after(go)


async def browse_click(number: int) -> Result:
    return await _after(lambda page: page.locator(f"[{MARK}='{int(number)}']").click(timeout=300 * seconds()))


async def browse_type(number: int, text: str, submit: bool = False) -> Result:
    async def fill(page: Any) -> None:
        field = page.locator(f"[{MARK}='{int(number)}']")
        if await field.evaluate("element => element.tagName") == "SELECT":
            await field.select_option(label=text, timeout=300 * seconds())
        else:
            await field.fill(text, timeout=300 * seconds())
        if submit:
            await field.press("Enter")

    return await _after(fill)


async def browse_back() -> Result:
    return await _after(lambda page: page.go_back(wait_until="domcontentloaded"))


async def browse_scroll() -> Result:
    """To the end of the page, where some load more."""
    return await _after(lambda page: page.evaluate("window.scrollTo(0, document.body.scrollHeight)"), part=-1)


async def browse_view(part: int = 1) -> Result:
    async def stay(page: Any) -> None: ...

    return await _after(stay, part)


async def browse_screenshot(name: str = "screenshot.png") -> Result:
    try:
        page = await _browser.page()
        await _answered(page)
        picture = await page.screenshot(type="png")
        file = write_new(Path.cwd(), name or "screenshot.png", picture)
    except internet.WebError as reason:
        return internet.failed(reason)
    except Exception as reason:
        return error(f"no screenshot: {_line(reason)}")
    return made(f"{len(picture)} bytes in {file}", file)


async def _after(step: Any, part: int = 1) -> Result:
    """Take a step, let the page settle, and show it; part -1 is the last."""
    from playwright.async_api import Error
    from playwright.async_api import TimeoutError as TooLong

    try:
        page = await _browser.page()
        await step(page)
        await asyncio.sleep(SETTLES)  # what a click leads to has begun by then
        with suppress(TooLong):  # some pages never fall silent
            await page.wait_for_load_state("networkidle", timeout=200 * seconds())
        await _answered(page)
        title, lines = await page.title(), await page.evaluate(VIEW.read_text(), MARK)
    except internet.WebError as reason:
        return internet.failed(reason)
    except TooLong as reason:
        return internet.failed(internet.WebError(_line(reason), passing=True))
    except Error as reason:
        return internet.failed(internet.WebError(_line(reason), _passes(str(reason))))
    content = "\n".join([f"{title}\n{page.url}", *lines])
    return in_parts(content, part, page.url)


async def _answered(page: Any) -> None:
    """That the page shown, wherever a click or a redirect has led, is one, and on the web.

    Raises:
        WebError: it is not on the web, or another try may find another.
    """
    if page.url.startswith("http"):
        await internet.check(page.url)
        status = await page.evaluate(STATUS)
        if status in internet.AGAIN:
            raise internet.WebError(f"{page.url[:200]}: status {status}", passing=True)
    elif page.url.startswith(NO_PAGE):
        shown = await page.evaluate("document.body.innerText")
        if code := re.search(r"\bERR_\w+", shown):
            raise internet.WebError(f"there is no page: {code[0]}", _passes(f"net::{code[0]}"))


def _passes(reason: str) -> bool:
    """Whether an error of Playwright or Chromium is of the network, and may pass."""
    if NO_TEXT in reason:
        return _browser.status in internet.AGAIN
    return "net::ERR_" in reason and not any(f"net::{code}" in reason for code in LASTING)


def _line(reason: BaseException) -> str:
    return str(reason).splitlines()[0][:200]


def add_to(server: ToolServer) -> None:
    for tool, description in (
        (browse, "Open a web page in a browser."),
        (browse_click, "Click the element with this number."),
        (browse_type, "Fill the field with this number; submit: press Enter."),
        (browse_scroll, "Scroll to the end."),
        (browse_back, "Go back."),
        (browse_view, "Show a further part of the page."),
        (browse_screenshot, "Save a picture of the page."),
    ):
        server.add_tool(tool, description=description)


if __name__ == "__main__":
    from aworld.tools.__main__ import serve

    serve(["browser"])
