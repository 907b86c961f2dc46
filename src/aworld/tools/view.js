// A page as lines of text; what can be clicked or filled gets a number, which is also written into its attribute `mark`.
(mark) => {
  const SKIPPED = new Set(["SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE", "HEAD", "SVG"]);
  const ROLES = new Set(["button", "link", "checkbox", "radio", "tab", "menuitem", "option", "switch", "textbox"]);
  const lines = [];
  let line = "";
  let count = 0;
  const flush = () => { if (line.trim()) lines.push(line.replace(/\s+/g, " ").trim()); line = ""; };
  const short = (text) => (text || "").replace(/\s+/g, " ").trim().slice(0, 100);
  const kind = (e) => {
    if (e.tagName === "A" && e.href) return "link";
    if (e.tagName === "BUTTON") return "button";
    if (e.tagName === "SELECT") return "choice";
    if (e.tagName === "TEXTAREA" || e.isContentEditable) return "field";
    if (e.tagName === "INPUT") {
      if (e.type === "hidden") return "";
      return { checkbox: "checkbox", radio: "radio", submit: "button", button: "button", image: "button" }[e.type] || "field";
    }
    const role = e.getAttribute("role");
    if (ROLES.has(role)) return role;
    return e.hasAttribute("onclick") || e.tagName === "SUMMARY" ? "button" : "";
  };
  const label = (e) => {
    const named = e.labels && e.labels.length ? e.labels[0].innerText : "";
    return short(e.getAttribute("aria-label") || named || e.innerText || e.placeholder || e.title || e.alt || e.name);
  };
  const state = (e) => {
    if (e.type === "checkbox" || e.type === "radio") return e.checked ? " (on)" : " (off)";
    if (e.tagName === "SELECT") {
      return ` = "${short(e.selectedOptions[0]?.label)}" of ${[...e.options].slice(0, 30).map((o) => short(o.label)).join(" | ")}`;
    }
    return "value" in e && e.tagName !== "BUTTON" && e.tagName !== "LI" && e.value ? ` = "${short(e.value)}"` : "";
  };
  document.querySelectorAll(`[${mark}]`).forEach((e) => e.removeAttribute(mark));
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) { line += node.textContent; return; }
    if (node.nodeType !== Node.ELEMENT_NODE || SKIPPED.has(node.tagName.toUpperCase())) return;
    const style = getComputedStyle(node);
    if (style.display === "none" || style.visibility === "hidden") return;
    const block = !style.display.startsWith("inline");
    if (block) flush();
    const is = kind(node);
    if (is) {
      node.setAttribute(mark, ++count);
      line += ` [${count}] ${is} "${label(node)}"${state(node)} `;
      if (block) flush();
      if (node.tagName !== "SUMMARY") return;
    }
    if (node.tagName === "IMG" && node.alt) line += ` (picture: ${short(node.alt)}) `;
    if (node.tagName === "TD" || node.tagName === "TH") line += "\t";
    for (const child of (node.shadowRoot || node).childNodes) walk(child);
    if (block && node.tagName !== "TD" && node.tagName !== "TH") flush();
  };
  walk(document.body || document.documentElement);
  flush();
  return lines;
}
