/**
 * The names of the tests that a source file declares, read from its text: without running it, and whether or not a web server
 * that it needs is there.
 *
 * A name that is put together has `…` in place of each part that is not known before the file runs.
 */

interface Literal {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** What declares a test with its name as the first argument: `it` in all its forms, and the helpers of this project. */
const declares = /(?:^|[^\w$.])(?:it|test|play|decide|draining)(?:\.\w+)*$/

const isSpace = (character: string | undefined): boolean => character !== undefined && /\s/.test(character)

/** The source without comments and the insides of its literals, at the same places; and the literals. */
const read = (source: string): { readonly code: string; readonly literals: ReadonlyArray<Literal> } => {
  const code = [...source].length === source.length
    ? source.split("")
    : Array.from({ length: source.length }, (_, i) => source[i]!)
  const literals: Array<Literal> = []
  const blank = (from: number, to: number) => {
    for (let i = from; i < to; i++) if (code[i] !== "\n") code[i] = " "
  }
  // A slash begins a regular expression where no value can stand before it.
  const beginsRegex = (at: number): boolean => {
    let before = at - 1
    while (before >= 0 && isSpace(code[before])) before--
    return before < 0 || "(,=:[!&|?{};+<>".includes(code[before]!) ||
      /\breturn$/.test(code.slice(Math.max(0, before - 6), before + 1).join(""))
  }
  const scan = (from: number, until: string | undefined): number => {
    let depth = 0
    for (let at = from; at < source.length;) {
      const character = source[at]!
      if (until !== undefined && depth === 0 && character === until) return at
      if (character === "{") depth++
      if (character === "}") depth--
      if (source.startsWith("//", at)) {
        const end = source.indexOf("\n", at)
        blank(at, end === -1 ? source.length : end)
        at = end === -1 ? source.length : end
      } else if (source.startsWith("/*", at)) {
        const end = source.indexOf("*/", at) + 2
        blank(at, end)
        at = end
      } else if (character === "\"" || character === "'") {
        let end = at + 1
        while (source[end] !== character) end += source[end] === "\\" ? 2 : 1
        literals.push({ start: at, end: end + 1, text: unescaped(source.slice(at + 1, end)) })
        blank(at + 1, end)
        at = end + 1
      } else if (character === "`") {
        let text = ""
        let end = at + 1
        let part = end
        while (source[end] !== "`") {
          if (source[end] === "\\") end += 2
          else if (source.startsWith("${", end)) {
            text += unescaped(source.slice(part, end)) + "…"
            end = scan(end + 2, "}") + 1
            part = end
          } else end++
        }
        text += unescaped(source.slice(part, end))
        literals.push({ start: at, end: end + 1, text })
        blank(at + 1, end)
        at = end + 1
      } else if (character === "/" && beginsRegex(at)) {
        let end = at + 1
        for (let inClass = false; source[end] !== "/" || inClass; end++) {
          if (source[end] === "\\") end++
          else if (source[end] === "[") inClass = true
          else if (source[end] === "]") inClass = false
        }
        blank(at + 1, end)
        at = end + 1
      } else at++
    }
    return source.length
  }
  scan(0, undefined)
  return { code: code.join(""), literals: literals.sort((a, b) => a.start - b.start) }
}

const unescaped = (text: string): string => text.replace(/\\(["'`\\$])/g, "$1")

/** Where the parenthesis that `at` closes was opened. */
const opened = (code: string, at: number): number => {
  let depth = 0
  for (; at >= 0; at--) {
    if (code[at] === ")") depth++
    if (code[at] === "(" && --depth === 0) break
  }
  return at
}

/** The names of the tests in a source text. */
export const testNames = (source: string): ReadonlyArray<string> => {
  const { code, literals } = read(source)
  const names: Array<string> = []
  for (let i = 0; i < literals.length; i++) {
    const literal = literals[i]!
    const before = code.slice(0, literal.start).trimEnd()
    if (!before.endsWith("(")) continue
    let callee = before.slice(0, -1).trimEnd()
    // it.each(…)("name") and it.skipIf(…)("name")
    if (callee.endsWith(")")) callee = code.slice(0, opened(code, callee.length - 1)).trimEnd()
    // it.each<…>(…)("name")
    if (callee.endsWith(">")) callee = callee.slice(0, callee.length - /<[^()]*>$/.exec(callee)![0].length)
    if (!declares.test(callee)) continue
    let name = literal.text
    for (let last = literal; i + 1 < literals.length; last = literals[++i]!) {
      const next = literals[i + 1]!
      if (code.slice(last.end, next.start).trim() !== "+") break
      name += next.text
    }
    names.push(name)
  }
  return names
}
