/**
 * Every point of the specification is held by a test: docs/specification.md has a row for each, with the file and the name of
 * its tests. Here it is checked that no row is missing, that none is without a test but those below, and that every test that
 * is named exists.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"
import { testNames } from "./support/testNames.ts"

/** The points of the specification, by whom they bind. */
const points = {
  server:
    "2.1-a 2.2-a 2.2-b 2.2-c 2.2-d 2.3-a 2.3-b 2.4-a 3.2-a 3.2-b 3.2-c 3.2-d 3.2-e 3.3-g 3.3-h 3.3-i 3.3-j 3.3-o " +
    "3.5-a 3.5-b 4.1-a 4.1-b 4.1-c 4.1-d 4.1-e 4.1-f 4.1-g 4.1-h 4.1-i 4.2-a 4.2-b 5.1-c 5.1-d 5.1-e 5.1-f 5.4-a 5.4-b " +
    "5.4-c 5.4-d 5.4-f 5.5-b 5.5-c 5.5-d 5.5-e 6.1-c 6.1-d 6.1-e 6.1-f 6.1-h 6.2-a 6.2-b 6.2-c 6.2-d 6.2-e 6.2-f 6.3-a " +
    "6.3-b 6.3-c 6.3-d 6.3-g 6.4-c 6.4-d 6.4-e 6.4-f 6.4-g 7-a 7-b 7-c 7-d 7-e",
  client: "3.3-k 3.5-c 4.1-j 4.2-c 5.4-e 5.5-f 6.3-f",
  both: "3.1-a 3.3-a 3.3-b 3.3-c 3.3-d 3.3-e 3.3-f 3.3-l 3.3-m 3.3-n 3.4-a 3.4-b 3.4-c 3.4-d 3.4-e 5.1-a 5.1-b 5.2-a " +
    "5.3-a 5.5-a 6.1-a 6.1-b 6.1-g 6.3-e 6.4-a 6.4-b 8-a 8-b A-a A-b B-1 B-2 B-3 B-4"
}

/** Rows that no test holds, and say why. */
const without = new Set(["6.4-g"])

const document = Fs.readFileSync(Path.join(projectRoot, "docs/specification.md"), "utf8")

interface Reference {
  readonly file: string
  readonly name: string
}

/** What a cell names: `file`: "name". A vertical bar is written with a backslash in a table. */
const referencesIn = (cell: string): ReadonlyArray<Reference> =>
  Array.from(cell.matchAll(/`([^`]+\.ts)`: "((?:[^"])*)"/g), ([, file, name]) => ({
    file: file!,
    name: name!.replaceAll("\\|", "|")
  }))

const rows = Array.from(document.matchAll(/^\| ([0-9AB][\w.]*-[\w]+) +\|(.*)\|$/gm), ([, id, rest]) => {
  const [section, level, point, server, client] = rest!.split(/(?<!\\)\|/).map((cell) => cell.trim())
  return { id: id!, section: section!, level: level!, point: point!, server: server!, client: client! }
})

const names = new Map<string, ReadonlySet<string>>()

const exists = ({ file, name }: Reference): boolean => {
  let known = names.get(file)
  if (known === undefined) {
    const path = Path.join(projectRoot, "test", file)
    known = new Set(Fs.existsSync(path) ? testNames(Fs.readFileSync(path, "utf8")) : [])
    names.set(file, known)
  }
  return known.has(name)
}

describe("docs/specification.md", () => {
  it("has a row for every point of the specification, and for nothing else", () => {
    const ids = Object.values(points).flatMap((list) => list.split(" "))
    // 108 points, the last of which is four examples.
    assert.strictEqual(ids.length, 111)
    assert.deepStrictEqual(rows.map(({ id }) => id).sort(), ids.sort())
    for (const { id, level, point, section } of rows) {
      assert.match(section, /^(?:\d(?:\.\d)?|FAQ|A|B)$/, id)
      assert.match(level, /^(?:R|S|O|I|gap)$/, id)
      assert.isAbove(point.length, 15, id)
    }
  })

  it("names a test for every point, on the side or sides that it binds", () => {
    const missing = rows.flatMap(({ client, id, server }) => {
      const binds = (side: "server" | "client") =>
        [side, "both"].some((one) => points[one as keyof typeof points].split(" ").includes(id))
      if (without.has(id)) {
        return referencesIn(server).length === 0 && server.length > 40 ? [] : [`${id}: says why there is no test`]
      }
      return [
        ...binds("server") && referencesIn(server).length === 0 ? [`${id}: server`] : [],
        ...binds("client") && referencesIn(client).length === 0 ? [`${id}: client`] : []
      ]
    })
    assert.deepStrictEqual(missing, [])
  })

  it("names tests that exist", () => {
    const named = referencesIn(document)
    assert.isAbove(named.length, 150)
    assert.deepStrictEqual(
      named.filter((reference) => !exists(reference)).map(({ file, name }) => `${file}: ${name}`),
      []
    )
  })
})

describe("the names of tests", () => {
  it("are found in every form of a declaration", () => {
    const source = [
      `it("plain", () => {})`,
      `it.effect("an Effect", () => {})`,
      `it.live.each([["a", ")"], ["b", /["'\`)]/]])("each of %s", () => {})`,
      `it.each<[ReadonlyArray<string>, number]>([])("%j is %j", () => {})`,
      `it.live.skipIf(!asRoot || f("x"))("perhaps", () => {})`,
      `play(\n  "on a line of its own",\n  server)`,
      "play(`of ${list.map((one) => `${one}`).join()} and \\`this\\``, server)",
      `play("in two " +\n  "parts", server)`,
      `it.prop("a property", {})`
    ].join("\n")
    assert.deepStrictEqual(testNames(source), [
      "plain",
      "an Effect",
      "each of %s",
      "%j is %j",
      "perhaps",
      "on a line of its own",
      "of … and `this`",
      "in two parts",
      "a property"
    ])
  })

  it("are not what stands in comments, strings and other calls", () => {
    const source = [
      `// it("a comment")`,
      `/* it("another") */`,
      `const text = 'it("a string")'`,
      "const template = `it(\"a template\")`",
      `const pattern = /it("a pattern")/`,
      `submit("a call")`,
      `it(name, () => f("an argument"))`,
      `visit.it2("no")`
    ].join("\n")
    assert.deepStrictEqual(testNames(source), [])
  })
})
