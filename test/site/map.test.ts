/**
 * docs/README.md, the map that the site's front page and its sidebar are made of: it leads to every page, once.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { changeLinks, linksOf } from "../../site/links.ts"
import { documents, jobs, jobsOf } from "../../site/map.ts"
import { projectRoot } from "../support/files.ts"

describe("the map of the pages", () => {
  const listed = jobs().flatMap(({ pages }) => pages.map(({ file }) => file))

  it("has every page of docs, and each once", () => {
    assert.deepStrictEqual(
      documents().filter((file) => !listed.includes(file)),
      [],
      "docs/README.md lists pages by job: add a line \"- [Name](page.md): what is in it\" to one of its lists"
    )
    assert.deepStrictEqual(listed.filter((file, index) => listed.indexOf(file) !== index), [])
    assert.deepStrictEqual(listed.filter((file) => !documents().includes(file)), [])
  })

  it("leads to nothing outside its lists", () => {
    const text = Fs.readFileSync(Path.join(projectRoot, "docs/README.md"), "utf8")
    assert.deepStrictEqual(linksOf(text), listed)
  })

  it("has no page that links to localhost, which the site's generator takes for a dead link", () => {
    for (const file of documents()) {
      const text = Fs.readFileSync(Path.join(projectRoot, "docs", file), "utf8")
      assert.notMatch(text, /(?:<|\]\()https?:\/\/(?:localhost|127\.)/, file)
    }
  })

  it("is read from headings and lists", () => {
    assert.deepStrictEqual(
      jobsOf("# A\n\n[b](b.md)\n\n## C\n\nd\n\n- [E f](e.md): g\n- h\n\n## I\n\n- [J](j-k.md)\n"),
      [
        { name: "C", pages: [{ name: "E f", file: "e.md" }] },
        { name: "I", pages: [{ name: "J", file: "j-k.md" }] }
      ]
    )
  })

  it("finds links, and none in code", () => {
    const text = "[a](b.md#c) `[d](e.md)` [f](https://g) [`m`](h)\n```md\n[i](j.md)\n```\n[k](#l)\n"
    assert.deepStrictEqual(linksOf(text), ["b.md#c", "h", "#l"])
    assert.strictEqual(changeLinks("[a](b) `[c](d)`", (link) => `${link}!`), "[a](b!) `[c](d)`")
  })
})
