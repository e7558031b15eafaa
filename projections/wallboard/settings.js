// What a person chose: URL parameters for a screen on the wall, else what this browser keeps, else what the system says.
import { chooseLanguage, language, LANGUAGES, words } from "/wallboard/words.js";
import { $, attribute, put } from "/wallboard/dom.js";

const given = new URLSearchParams(location.search);
const PREFIX = "callstream.";

export function chosen(name) {
  if (given.has(name)) return given.get(name);
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // storage can be forbidden; the page works without
  }
}

export function choose(name, value) {
  given.delete(name);
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    given.set(name, value ?? "");
  }
}

// A token comes once in the address, is kept for this tab and leaves the address bar.
export function token() {
  const inAddress = given.get("access_token");
  try {
    if (inAddress) {
      sessionStorage.setItem(PREFIX + "token", inAddress);
      const address = new URL(location.href);
      address.searchParams.delete("access_token");
      history.replaceState(null, "", address);
    }
    return inAddress || sessionStorage.getItem(PREFIX + "token");
  } catch {
    return inAddress;
  }
}

export function useToken(text) {
  given.set("access_token", text);
  return token();
}

export async function ask(path) {
  const held = token();
  const answer = await fetch(path, { cache: "no-store", headers: held ? { Authorization: "Bearer " + held } : {} });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail || body.title || answer.statusText), { status: answer.status });
  return body;
}

const THEMES = ["system", "light", "dark"];

function wear(theme) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : "system";
}

function say() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) put(node, words[node.dataset.word]);
  for (const node of document.querySelectorAll("[data-label]")) attribute(node, "aria-label", words[node.dataset.label]);
  document.title = words[document.body.dataset.title];
}

// Wires the two switches that both pages have; `redraw` shows everything in the new words or colours.
export function begin(redraw) {
  chooseLanguage(chosen("lang"));
  wear(chosen("theme"));
  say();
  $("language").append(...LANGUAGES.map(([code, name]) => Object.assign(new Option(name, code), { lang: code })));
  $("language").value = language;
  $("theme").value = document.documentElement.dataset.theme;
  $("language").addEventListener("change", () => {
    choose("lang", $("language").value);
    chooseLanguage($("language").value);
    say();
    redraw();
  });
  $("theme").addEventListener("change", () => {
    choose("theme", $("theme").value);
    wear($("theme").value);
    redraw();
  });
  const asked = $("token");
  if (asked) {
    asked.addEventListener("submit", (event) => {
      event.preventDefault();
      useToken($("token-text").value.trim());
      asked.hidden = true;
      dispatchEvent(new Event("token"));
    });
  }
}

export function askForToken() {
  if ($("token").hidden) {
    $("token").hidden = false;
    $("token-text").focus();
  }
}
