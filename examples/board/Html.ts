/**
 * A template tag that escapes everything put into it, except what was made by the tag itself. All HTML of the
 * example goes through it, so there is one place where escaping can be wrong.
 */

export class Html {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export type Value = string | number | Html | ReadonlyArray<Html> | undefined

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;", "'": "&#39;" }

/** For element content and quoted attribute values. */
export const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character]!)

const toText = (value: Value): string => {
  if (value === undefined) return ""
  if (value instanceof Html) return value.text
  if (typeof value === "object") return value.map(toText).join("")
  return escape(String(value))
}

export const html = (strings: TemplateStringsArray, ...values: ReadonlyArray<Value>): Html => {
  let text = strings[0]!
  for (let i = 0; i < values.length; i++) {
    text += toText(values[i]) + strings[i + 1]!
  }
  return new Html(text)
}
