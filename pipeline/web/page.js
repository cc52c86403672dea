// What the scripts of the pages on this machine do alike; a page takes it in (guard.py).
"use strict";
const byId = (id) => document.getElementById(id);
let token = "";  // this tab's; got once for the code in the link

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// As `visible` of pipeline/text/visible.py: what is not seen or turns text around is an escape.
const UNSEEN = new RegExp(
  "(?![\\t\\n\\ufe0e\\ufe0f])" +
  "[\\p{Cc}\\p{Cs}\\p{Zl}\\p{Zp}\\p{DI}\\ufff9-\\ufffb\\u{13430}-\\u{1343f}]", "gu");
function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (found) => {
    const hex = found.codePointAt(0).toString(16);
    if (hex.length <= 2) return "\\x" + hex.padStart(2, "0");
    return hex.length <= 4 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
  });
}

// As `page_image` of pipeline/text/pictures.py has a picture; null where there is none.
function drawing(picture, described) {
  if (!picture?.source.startsWith("data:image/png;base64,")) return null;
  const image = element("img", "drawing");
  image.src = picture.source;
  [image.width, image.height] = [picture.width_px, picture.height_px];
  image.alt = described;
  return image;
}

function call(path, body, signal) {
  const headers = { "Authorization": `Bearer ${token}`, "Content-Type": "application/json" };
  return fetch(path, { method: body === undefined ? "GET" : "POST", headers, body, signal });
}

// A link's code lets one tab in; what it gets for it survives a reload, and nothing else.
async function enter() {
  const code = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  token = sessionStorage.getItem("token") ?? "";
  if (!code) return;
  const response = await call("/api/enter", code);
  const found = await response.json();
  if (response.ok) sessionStorage.setItem("token", token = found.token);
  else if (!token) throw new Error(found.error);
}

window.onhashchange = () => location.reload();

// For the button that a page calls `theme`.
function switchTheme() {
  const style = document.documentElement.style;
  const isSystemDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const isDark = style.colorScheme ? style.colorScheme === "dark" : isSystemDark;
  style.colorScheme = isDark ? "light" : "dark";
}
