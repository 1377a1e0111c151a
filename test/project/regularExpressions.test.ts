/**
 * Every regular expression of `src` takes time in proportion to what it is given: what peers, clients and applications send
 * meets most of them, and one that backtracks stops everybody.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { objection } from "./support/linear.ts"

const source = Path.join(projectRoot, "src")

/** The regular expressions of a source text: a "/" where a value may begin, outside of comments and strings. */
const expressionsOf = (text: string): ReadonlyArray<RegExp> => {
  const found: Array<RegExp> = []
  const token =
    /^#![^\n]*|\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|(?<=(?:[(,=:?[!&|{};>]|return|^)\s*)\/((?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])+)\/([dgimsuvy]*)/gm
  for (const [, pattern, flags] of text.matchAll(token)) {
    if (pattern !== undefined) found.push(new RegExp(pattern, flags))
  }
  return found
}

describe("regular expressions", () => {
  const files = Fs.readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))
  const texts = files.map((file) => [file, Fs.readFileSync(Path.join(source, file), "utf8")] as const)

  it("of src are linear", () => {
    const wrong: Array<string> = []
    let count = 0
    for (const [file, text] of texts) {
      for (const expression of expressionsOf(text)) {
        count++
        const why = objection(expression)
        if (why !== undefined) wrong.push(`${file}: ${expression} ${why}`)
      }
    }
    assert.strictEqual(wrong.join("\n"), "")
    assert.isAbove(count, 50)
  })

  it("of src are written down: none is put together from text", () => {
    assert.deepStrictEqual(texts.filter(([, text]) => /\bRegExp\(/.test(text)).map(([file]) => file), [])
  })

  describe("that took seconds are found", () => {
    // With a text that takes each of them more than four times as long when it is twice as long.
    const rows: ReadonlyArray<readonly [RegExp, (n: number) => string]> = [
      [/^[ \t]+|[ \t]+$/g, (n) => `a${" ".repeat(n)}b`],
      [/^HTTP\/\d+(?:\.\d+)?[ \t]+(.*)$/, (n) => `HTTP/1.1${" ".repeat(n)}\r`],
      [/^(\d{3})(?:[ \t]+(.*))?$/, (n) => `200${" ".repeat(n)}\r`],
      [/ [0-9].*$/, (n) => `${" 0".repeat(n)}\n`],
      [/\/+$/, (n) => `${"/".repeat(n)}a`],
      [/[ \t]*;/g, (n) => " ".repeat(n)],
      [/\s+$/m, (n) => `a${" ".repeat(n)}b`],
      [/^\s+x/m, (n) => "\n".repeat(n)]
    ]
    for (const [expression, text] of rows) {
      it(String(expression), () => {
        assert.match(String(objection(expression)), /two loops/)
        const took = (n: number) => {
          const start = performance.now()
          text(n).replace(expression, "")
          return performance.now() - start
        }
        assert.isAbove(took(5_000), 3, "milliseconds")
      })
    }

    for (
      const expression of [/^(?:a+)+$/, /^(?:a|aa)*$/, /^(?:a*)*$/, /^(?:a|a)*$/, /^(?:a*b?)*c/, /(?=a)b/, /^(a)\1$/]
    ) {
      it(String(expression), () => assert.isString(objection(expression)))
    }
  })

  it("that are linear are not refused", () => {
    const linear = [
      /^\d+$/,
      /a+/g,
      /[^a]+/,
      /^a*b*$/,
      /^(?:ab?)+$/,
      / \d+$/,
      /^[ \t]+/,
      /\r\n|\r|\n/g,
      /^a{2,5}$/,
      /x/m
    ]
    for (const expression of linear) assert.isUndefined(objection(expression), String(expression))
  })
})
