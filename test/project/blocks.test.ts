/**
 * Every configuration and program on the pages is one that a test runs, compiles or compares with what runs.
 */
import { assert, describe, it } from "@effect/vitest"
import { blocks, blocksOf, byHand, testOf, tests } from "./support/blocks.ts"

describe("the blocks of code on the pages", () => {
  it("have a test each, or a reason", () => {
    assert.isAbove(blocks.length, 150)
    const without = blocks.filter((block) => testOf(block) === undefined)
      .map(({ content, language, line, page }) => `${page}:${line} ${language}: ${content.split("\n", 1)[0]}`)
    assert.deepStrictEqual(
      without,
      [],
      "write a test that reads the block, and name it in test/project/support/blocks.ts"
    )
  })

  it("are those that the lists of exceptions are about", () => {
    const unused = [...byHand, ...tests].filter(([page, start]) =>
      !blocks.some((block) => (page === "" || page === block.page) && block.content.startsWith(start))
    )
    assert.deepStrictEqual(unused, [])
  })

  it("are found where they are indented, and nothing else is", () => {
    const text = "a\n```sh\nb\n```\n- c\n\n  ```ts no-check\n  d\n    e\n  ```\n`f`\n"
    assert.deepStrictEqual(blocksOf("x.md", text), [
      { page: "x.md", line: 2, language: "sh", info: "", content: "b\n" },
      { page: "x.md", line: 7, language: "ts", info: "no-check", content: "d\n  e\n" }
    ])
  })

  it("are untested where nothing of them is known", () => {
    const block = {
      page: "docs/nginx.md",
      line: 1,
      language: "nginx",
      info: "",
      content: "# a block that is new\nlisten 80;\n"
    }
    assert.isUndefined(testOf(block))
    assert.isUndefined(testOf({ ...block, language: "sh", content: "rm -r somewhere/else\n" }))
  })
})
