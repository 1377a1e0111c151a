/**
 * The limits of `FastCgiLimits` are what the documentation lists: the tables between the comments are made of them.
 * `WRITE_TABLES=1 npx vitest run test/project/limits.test.ts`, and then `npm run format`, writes them anew.
 */
import { assert, describe, it } from "@effect/vitest"
import { FastCgiLimits } from "effect-fastcgi"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectFiles, projectRoot } from "../support/files.ts"

const all: ReadonlyArray<readonly [name: string, FastCgiLimits.FastCgiLimitDefinition]> = Object.entries({
  ...FastCgiLimits.admission,
  ...FastCgiLimits.server,
  ...FastCgiLimits.listener,
  ...FastCgiLimits.webSocket,
  ...FastCgiLimits.workers
})

const written = (limit: FastCgiLimits.FastCgiLimitDefinition): string => {
  const value = limit.default
  if (typeof value !== "number") return String(value)
  if (limit.unit === "count") return String(value)
  return value % 2 ** 20 === 0 ? `${value / 2 ** 20} MiB` : `${value / 2 ** 10} KiB`
}

type Row = ReadonlyArray<string>

const code = (text: string): string => `\`${text}\``

const byDefault = (limit: FastCgiLimits.FastCgiLimitDefinition): string =>
  limit.default === "unbounded" ? code("unbounded") : written(limit)

const tables: Readonly<Record<string, ReadonlyArray<Row>>> = {
  "docs/operations.md": [
    ["setting", "option", "default", "what happens beyond it"],
    ...all.map(([name, limit]) => [code(FastCgiLimits.settingName(name)), code(name), byDefault(limit), limit.beyond])
  ],
  "docs/architecture.md": [
    ["option", "default", "beyond it", "counted"],
    ...all.map(([name, limit]) => [code(name), byDefault(limit), limit.beyond, limit.counted ? "yes" : ""])
  ]
}

const begin = "<!-- limits: made of FastCgiLimits -->\n"
const end = "<!-- limits: end -->"

const print = (rows: ReadonlyArray<Row>): string =>
  [rows[0]!, rows[0]!.map(() => "---"), ...rows.slice(1)].map((row) => `| ${row.join(" | ")} |\n`).join("")

const read = (table: string): ReadonlyArray<Row> =>
  table.trim().split("\n").flatMap((line, index) =>
    index === 1 ? [] : [line.slice(1, -1).split("|").map((cell) => cell.trim())]
  )

const source = Fs.readFileSync(Path.join(projectRoot, "src/server/FastCgiLimits.ts"), "utf8")

describe("FastCgiLimits", () => {
  for (const [file, rows] of Object.entries(tables)) {
    it(`is the table of limits in ${file}`, () => {
      const path = Path.join(projectRoot, file)
      const page = Fs.readFileSync(path, "utf8")
      const at = page.indexOf(begin) + begin.length
      const until = page.indexOf(end)
      assert.isAbove(until, at)
      if (process.env["WRITE_TABLES"] !== undefined) {
        Fs.writeFileSync(path, `${page.slice(0, at)}\n${print(rows)}\n${page.slice(until)}`)
      } else {
        assert.deepStrictEqual(read(page.slice(at, until)), rows)
      }
    })
  }

  for (const [name, limit] of all) {
    it(`says of ${name} what its default is, and something enforces it`, () => {
      const comment = source.slice(0, source.indexOf(`  ${name}: {`)).split("/**").at(-1)!.replace(/\n +\* /g, " ")
      const [, said] = /Default `?"?([^.:,"`]+(?:,\d{3})?)/.exec(comment) ?? []
      assert.strictEqual(said?.replace(",", ""), written(limit))
      const users = projectFiles().filter((file) =>
        file.startsWith("src/") && file !== "src/server/FastCgiLimits.ts" &&
        new RegExp(`\\b${name}\\b`).test(Fs.readFileSync(Path.join(projectRoot, file), "utf8"))
      )
      assert.isNotEmpty(users)
    })
  }

  it("names a setting for each option, and no setting twice", () => {
    const names = all.map(([name]) => FastCgiLimits.settingName(name))
    assert.strictEqual(new Set(names).size, all.length)
    assert.include(names, "FASTCGI_MAX_CONCURRENT_REQUESTS_PER_CONNECTION")
    for (const name of names) assert.match(name, /^FASTCGI(_[A-Z]+)+$/)
  })

  it("resolves what is given, and what is not to its default", () => {
    const { maxConnections, maxRequests } = FastCgiLimits.resolve(FastCgiLimits.admission, { maxRequests: "unbounded" })
    assert.deepStrictEqual([maxConnections, maxRequests], [Infinity, Infinity])
    const server = FastCgiLimits.resolve(FastCgiLimits.server, {
      paramsTimeout: "2 seconds",
      maxParamsCount: undefined
    })
    assert.deepStrictEqual(
      [server.paramsTimeout, server.maxParamsCount, server.maxParamsSize, server.idleTimeout, server.lingerTimeout],
      [2000, 10_000, 1_048_576, Infinity, 30_000]
    )
  })

  it("says of an option whether it may be unbounded", () => {
    const options: FastCgiLimits.OptionsOf<typeof FastCgiLimits.server> = {
      idleTimeout: "unbounded",
      stallTimeout: "1 second",
      // @ts-expect-error: input may not hold others up for ever
      paramsTimeout: "unbounded",
      // @ts-expect-error: a size is a number of bytes
      maxParamsSize: "1 MiB"
    }
    assert.isDefined(options)
    // @ts-expect-error: nothing counts it
    const counted: FastCgiLimits.FastCgiLimit = "lingerTimeout"
    assert.isDefined(counted)
  })
})
