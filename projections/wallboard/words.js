// Every word that the pages show, in one place: English, German, French.
import { de } from "/wallboard/words.de.js";
import { en } from "/wallboard/words.en.js";
import { fr } from "/wallboard/words.fr.js";

const ALL = { en, de, fr };
export const LANGUAGES = [["en", "English"], ["de", "Deutsch"], ["fr", "Français"]];
export let language = "en";
export let words = en;

// The chosen language, else the first of the browser's that is spoken here, else English.
export function chooseLanguage(choice) {
  const wanted = [choice, ...(navigator.languages ?? [navigator.language])];
  language = wanted.map((tag) => String(tag ?? "").slice(0, 2).toLowerCase()).find((code) => code in ALL) ?? "en";
  words = ALL[language];
}
