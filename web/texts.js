// The pack's own texts in the page's language, from `locales/LANGUAGE/main.json`.

const page = () => document.getElementById("vue-app")?.__vue_app__?.config.globalProperties;

/** A text by its name; the English one on pages that have no such texts. */
export function text(name, english) {
  const key = `unlearn.${name}`;
  const found = page()?.$t?.(key);
  return found && found !== key ? found : english;
}

/** What is being done: the server's own words, which name the concept, are English. */
export function phaseText(report) {
  const words = report.message || report.phase;
  return (page()?.$i18n?.locale ?? "en") === "en" ? words : text(`phases.${report.phase}`, words);
}
