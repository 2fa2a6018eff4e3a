// What a text says in another language, by a table of phrases. No page here: texts in, texts out.
//
// In a phrase, {n} (one letter) stands for a number, {label} (a word) for a text that is translated in turn, and {NAME}
// for one that stays as it is. How numbers are written is told by the translation of the number SAMPLE. A phrase that ends in "|selector" is for what stands inside such an element.

const NUMBER = "([−-]?\\d+(?:[.,]\\d+)*)";
const SAMPLE = "1,000.5";
const WHOLE_NUMBER = /^[<>]?[−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?$/; // as English writes it
const TITLES = "Prof|Dr|Doç|Öğr|Gör|Arş|Uzm|Op|Yrd|Dt|Mr|Mrs|Ms|St"; // before a name, as an initial is: no sentence ends there
const SENTENCES = new RegExp(`(?<=[.!?])(?<!(?<!\\p{L})(?:${TITLES}|\\p{Lu})\\.)\\s+(?=[\\p{Lu}\\d])`, "u");
const MOST_KEPT = 4000; // texts whose translation is kept

class Phrases {
  constructor(table) {
    this.exact = new Map(); // phrase -> translation
    this.local = new Map(); // phrase -> [[selector, translation], …]
    this.patterns = []; // those of more words first
    this.marks = [",", "."]; // between thousands, and before decimals
    this.kept = new Map();
    for (const [key, translation] of Object.entries(table)) {
      const [phrase, selector] = key.split("|");
      if (phrase === SAMPLE) this.marks = [translation[1], translation[5]];
      else if (selector) this.local.set(phrase, [...(this.local.get(phrase) ?? []), [selector, translation]]);
      else if (phrase.includes("{")) this.patterns.push(compilePattern(phrase, translation, (number) => this.write(number) ?? number));
      else this.exact.set(phrase, translation);
    }
    this.patterns.sort((one, other) => other.weight - one.weight);
  }

  /** A text in the other language, its outer space kept; what the table does not know stays as it is. */
  translate(text, element = null) {
    const core = text.trim().replace(/\s+/g, " ");
    if (!core) return text;
    const here = element && this.local.get(core)?.find(([selector]) => element.closest(selector));
    const found = here ? here[1] : this.find(core);
    return found === null ? text : /^\s*/.exec(text)[0] + found + /\s*$/.exec(text)[0];
  }

  /** The translation of a text without outer space, or null. */
  find(core) {
    const exact = this.exact.get(core);
    if (exact !== undefined) return exact;
    if (!this.kept.has(core)) {
      if (this.kept.size >= MOST_KEPT) this.kept.clear();
      this.kept.set(core, this.search(core));
    }
    return this.kept.get(core);
  }

  search(core) {
    return (
      this.write(core) ?? this.join(core.split(" · "), " · ") ?? this.join(core.split(SENTENCES), " ") ?? this.match(core) ?? this.list(core) ?? this.peel(core)
    );
  }

  /** Parts that are translated each for itself; null where there is but one, or none is known. */
  join(parts, between) {
    const found = parts.length > 1 ? parts.map((part) => this.find(part)) : [];
    return found.some((part) => part !== null) ? found.map((part, place) => part ?? parts[place]).join(between) : null;
  }

  /** A number with the other language's marks; null for what is no number. */
  write(text) {
    const [thousands, decimals] = this.marks;
    return WHOLE_NUMBER.test(text) ? text.replace(/[,.]/g, (mark) => (mark === "," ? thousands : decimals)) : null;
  }

  match(core) {
    for (const { head, regex, fill } of this.patterns) {
      const found = core.startsWith(head) ? regex.exec(core) : null;
      if (found) return fill(found.slice(1), (part) => this.find(part) ?? part);
    }
    return null;
  }

  /** Labels with commas between them: all of them or none. */
  list(core) {
    const parts = core.split(", ");
    if (parts.length < 2) return null;
    const found = parts.map((part) => this.find(part) ?? (/\p{L}/u.test(part) ? null : part));
    return found.includes(null) ? null : found.join(", ");
  }

  /** A text between signs, as what stands beside an element often is. */
  peel(core) {
    const [, before, inner, after] = /^([:,;·–]*\s*)(.*?)(\s*[:,;·–]*)$/s.exec(core);
    const found = inner && inner !== core ? this.find(inner) : null;
    return found === null ? null : before + found + after;
  }
}

/** `{head, regex, fill, weight}` of a phrase with placeholders. */
function compilePattern(phrase, translation, write) {
  const [head, ...rest] = phrase.split(/\{(\w+)\}/);
  const names = rest.filter((_, place) => place % 2 === 0);
  const literals = [head, ...rest.filter((_, place) => place % 2 === 1)];
  const holes = names.map((name) => (name.length === 1 ? NUMBER : "(.+?)"));
  const source = literals.map((text, place) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&") + (holes[place] ?? "")).join("");
  const isWord = (name) => name.length > 1 && name !== name.toUpperCase();
  const fill = (parts, translate) =>
    translation.replace(/\{(\w+)\}/g, (_, name) => {
      const part = parts[names.indexOf(name)];
      if (name.length === 1) return write(part);
      return isWord(name) ? translate(part) : part;
    });
  return { head, regex: new RegExp(`^${source}$`, "su"), fill, weight: literals.join("").length };
}
