// Texts of episodes, as gzip in base64. The page hands them over, or a file beside it does, once it is loaded.
const texts = new Map(), files = new Map();
const text = (key, packed) => texts.set(key, packed);

function load(file) {  // a script, as a page that is opened as a file may fetch nothing
  if (!files.has(file)) files.set(file, new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = file;
    script.onload = done;
    script.onerror = () => { files.delete(file); script.remove(); failed(new Error(`${file} is not beside this page; copy it along`)); };
    document.head.append(script);
  }));
  return files.get(file);
}

async function show(key, file, place) {
  place.setAttribute("aria-busy", "true");
  try {
    if (!texts.has(key) && file) await load(file);
    if (!texts.has(key)) throw new Error("the page was written anew meanwhile; load it again");
    const bytes = Uint8Array.from(atob(texts.get(key)), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    place.innerHTML = await new Response(stream).text();
  } catch (reason) {
    place.textContent = `The episode cannot be shown: ${reason.message}`;
  }
  place.removeAttribute("aria-busy");
}

addEventListener("toggle", ({ target }) => {  // an episode that opens in its place
  const place = target.open && target.querySelector(":scope > [data-key]:empty");
  if (place) show(place.dataset.key, place.dataset.file, place);
}, true);

const find = (id) => document.getElementById(id);
const chips = () => [...document.querySelectorAll(".chip[id]")];
let scrolled = 0;  // where the list was when an episode was opened

function follow() {  // the episode that the address names
  let key = location.hash.slice(1);
  try { key = decodeURIComponent(key); } catch { /* as it is */ }
  const chosen = key ? find(key) : null, reader = find("reader");
  if (chosen?.tagName === "DETAILS") {
    chosen.open = true;
    chosen.scrollIntoView();
  }
  if (!reader) return;
  const before = reader.hidden ? null : reader.dataset.key;
  const is_one = Boolean(chosen?.classList.contains("chip"));
  if (is_one && reader.hidden) scrolled = scrollY;
  find("all").hidden = is_one;
  reader.hidden = !is_one;
  if (!is_one) {
    scrollTo(0, scrolled);
    if (before) find(before)?.focus({ preventScroll: true });
    return;
  }
  reader.dataset.key = key;
  const row = chosen.closest("tr");
  find("one-title").textContent = `${row.dataset.task}, attempt ${chosen.dataset.attempt}`;
  find("one-told").textContent = chosen.title;
  find("one-told").className = chosen.classList.contains("right") ? "right" : chosen.classList.contains("wrong") ? "wrong" : "";
  const shown = chips().filter((chip) => chip === chosen || !(chip.hidden || chip.closest("tr").hidden));
  const at = shown.indexOf(chosen);
  for (const [id, other] of [["one-before", shown[at - 1]], ["one-after", shown[at + 1]]]) {
    find(id).hidden = !other;
    if (other) find(id).href = other.getAttribute("href");
  }
  scrollTo(0, 0);
  find("one-text").replaceChildren();
  show(key, chosen.dataset.file, find("one-text")).then(() => find("one-title").focus());
}

function filter() {  // an attempt is shown if it has all that is chosen, a task if one of its attempts is
  const { outcome, level, status, tool, words } = Object.fromEntries(new FormData(find("filters")));
  const wanted = words.trim().toLowerCase();
  let attempts = 0, tasks = 0;
  const rows = document.querySelectorAll(".tasks tbody tr");
  for (const row of rows) {
    const named = !wanted || row.firstElementChild.textContent.toLowerCase().includes(wanted);
    let count = 0;
    for (const chip of row.querySelectorAll(".chip")) {
      const { outcome: found, status: ended, tools } = chip.dataset;
      const failed = (tools ?? "").split("\n");
      chip.hidden = !((!outcome || outcome === found) && (!status || status === ended)
        && (!tool || (tool === "*" ? Boolean(tools) : failed.includes(tool)))
        && (named || `${chip.textContent} ${chip.title}`.toLowerCase().includes(wanted)));
      count += !chip.hidden;
    }
    row.hidden = !count || Boolean(level && row.dataset.level !== level);
    if (!row.hidden) { tasks += 1; attempts += count; }
  }
  find("shown").textContent = `${tasks} of ${rows.length} tasks, ${attempts} attempts`;
}

addEventListener("DOMContentLoaded", () => {
  const form = find("filters");
  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    filter();  // a browser keeps what was chosen when a page is loaded again
  }
  addEventListener("hashchange", follow);
  follow();
});
