/**
 * The import rules between the folders of `src` (docs/architecture.md, Modules). One folder is one layer; this file reads the import
 * lines and fails on every edge that the table does not have.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../support/files.ts"

interface Rules {
  /** Other folders of `src`. `internal/` of another folder is never allowed unless `internals` names the folder. */
  readonly folders: ReadonlyArray<string>
  readonly internals?: ReadonlyArray<string>
  /** Folders whose types may be used, and nothing else of them. */
  readonly types?: ReadonlyArray<string>
  /** Single files beyond the folders. */
  readonly files?: ReadonlyArray<string>
  readonly packages: ReadonlyArray<RegExp>
}

/** `effect/Effect` and its like: the modules at the top of the package, which have no platform and no protocol. */
const core = /^effect\/[A-Z][A-Za-z]*$/
const pure = /^effect\/(Data|Result)$/
const net = /^effect\/net\/[A-Z][A-Za-z]*$/
const socket = /^effect\/socket\/[A-Z][A-Za-z]*$/
const http = /^effect\/http\/[A-Z][A-Za-z]*$/

const table: Record<string, Rules> = {
  protocol: { folders: [], packages: [pure] },
  // The text codec is shared by the two pure layers: PARAMS bytes become strings in both.
  cgi: {
    folders: [],
    types: ["protocol"],
    files: ["protocol/internal/text.ts"],
    packages: [pure, /^effect\/(?:Effect|Redacted|Schema|SchemaTransformation)$/]
  },
  // One setting of the environment.
  settings: { folders: [], packages: [core] },
  // Header blocks become bytes in the output queue. Chunks are put together in one way.
  connection: {
    folders: ["protocol"],
    files: ["protocol/internal/text.ts", "protocol/internal/bytes.ts"],
    packages: [core, /^effect\/socket\/Socket$/, /^effect\/net\/NetAddress$/]
  },
  // A target that came from a peer is encoded before it is logged. The access log writes params on as bytes.
  server: {
    folders: ["protocol", "connection", "cgi", "settings"],
    internals: ["connection"],
    files: ["cgi/internal/percent.ts", "protocol/internal/text.ts"],
    packages: [core, net, socket]
  },
  // The adapter runs on the same engine as FastCgiServer, and sees nothing of a connection.
  http: {
    folders: ["server", "cgi", "protocol"],
    internals: ["server"],
    files: ["cgi/internal/percent.ts"],
    packages: [core, net, http, /^effect\/socket\/Socket$/]
  },
  client: {
    folders: ["protocol", "connection", "cgi", "settings"],
    internals: ["connection"],
    files: ["cgi/internal/fields.ts", "cgi/internal/phpPath.ts", "protocol/internal/bytes.ts"],
    packages: [core, net, http, /^effect\/socket\/Socket$/]
  },
  // Settings of the environment are read, what peers cause is logged, and what comes and goes is kept, in one way. Apps written for Node and for the web
  // get their requests made from the params.
  node: {
    folders: ["server", "http", "client", "connection", "cgi", "settings"],
    types: ["protocol"],
    files: [
      "connection/internal/linkedList.ts",
      "server/internal/settings.ts",
      "server/internal/limitedLog.ts"
    ],
    packages: [core, net, socket, http, /^node:/, /^@effect\/platform-node\/[A-Z][A-Za-z]*$/]
  },
  testing: {
    folders: ["server", "client", "protocol", "cgi", "http", "connection"],
    files: ["connection/internal/memoryTransport.ts", "protocol/internal/bytes.ts"],
    packages: [core, net, http]
  },
  // Judges servers by their bytes: of a connection it knows the transport, and nothing of how this package speaks.
  conformance: {
    folders: ["protocol"],
    types: ["connection"],
    files: ["protocol/internal/bytes.ts"],
    packages: [core]
  },
  // People type addresses in settings and on the command line. Records are split as by `FastCgiChannel`. `status` reads the JSON that
  // the status page writes.
  cli: {
    folders: ["node", "client", "connection", "cgi", "protocol", "conformance"],
    files: [
      "node/internal/address.ts",
      "node/internal/listenerError.ts",
      "connection/internal/recordSplitter.ts",
      "server/internal/statusFigures.ts"
    ],
    packages: [core, net, http, /^effect\/cli\/[A-Z][A-Za-z]*$/, /^node:/, /^@effect\/platform-node\/[A-Z][A-Za-z]*$/]
  },
  // src/index.ts: the platform-free part, as one namespace a module
  "": { folders: ["protocol", "cgi", "connection", "server"], packages: [] }
}

const source = Path.join(projectRoot, "src")

interface Edge {
  readonly file: string
  readonly folder: string
  readonly specifier: string
  readonly typeOnly: boolean
}

const sourceFiles = (): ReadonlyArray<string> =>
  Fs.readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"))

const folderOf = (file: string): string => file.includes("/") ? file.slice(0, file.indexOf("/")) : ""

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "")

/** Every `import`, re-`export` and dynamic or type `import("…")` of a source text. */
const importsOf = (text: string): ReadonlyArray<{ readonly specifier: string; readonly typeOnly: boolean }> => {
  const code = withoutComments(text)
  return [
    ...code.matchAll(/^(?:import|export)\s+(type\s+)?(?:[\w*{}\s,$]+?from\s+)?"([^"]+)"/gm),
    ...code.matchAll(/\bimport()\("([^"]+)"\)/g)
  ].map((match) => ({ specifier: match[2]!, typeOnly: match[1] !== undefined && match[1] !== "" }))
}

const edgesOf = (file: string): ReadonlyArray<Edge> =>
  importsOf(Fs.readFileSync(Path.join(source, file), "utf8")).map((found) => ({
    file,
    folder: folderOf(file),
    ...found
  }))

/** What is wrong with an edge, or `undefined`. */
const objection = (edge: Edge): string | undefined => {
  const rules = table[edge.folder]
  if (rules === undefined) return `src/${edge.folder} has no line in the table`
  if (!edge.specifier.startsWith(".")) {
    return rules.packages.some((allowed) => allowed.test(edge.specifier)) ? undefined : "package not allowed here"
  }
  if (!edge.specifier.endsWith(".ts")) return "relative imports end in .ts"
  const target = Path.posix.join(Path.posix.dirname(edge.file), edge.specifier)
  if (target.startsWith("../")) return "outside src"
  const folder = folderOf(target)
  if (folder === edge.folder) {
    return Path.posix.basename(target) === "index.ts"
      ? "a module of a folder does not import the folder's index"
      : undefined
  }
  if (rules.files?.includes(target)) return undefined
  if (edge.typeOnly && rules.types?.includes(folder)) return undefined
  if (!rules.folders.includes(folder)) return `${edge.folder} may not import ${folder}`
  if (target.includes("/internal/") && !rules.internals?.includes(folder)) return `internals of ${folder}`
  if (Path.posix.basename(target) === "index.ts") return "import the module, not the folder's index"
  return undefined
}

const edge = (file: string, specifier: string, typeOnly = false): Edge => ({
  file,
  folder: folderOf(file),
  specifier,
  typeOnly
})

describe("imports of src", () => {
  it("follow the table of docs/architecture.md", () => {
    const files = sourceFiles()
    assert.isAbove(files.length, 10)
    const edges = files.flatMap(edgesOf)
    assert.isAbove(edges.length, files.length)
    const wrong = edges.flatMap((found) => {
      const why = objection(found)
      return why === undefined ? [] : [`src/${found.file}: "${found.specifier}": ${why}`]
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("have a line in the table for every folder", () => {
    assert.deepStrictEqual(sourceFiles().map(folderOf).filter((folder) => table[folder] === undefined), [])
  })

  it("of the files that hold the states are of one another and of the protocol", () => {
    for (const file of ["requestState.ts", "connectionState.ts", "stateMachine.ts"]) {
      const foreign = edgesOf(`connection/internal/${file}`).map(({ specifier }) => specifier)
        .filter((specifier) => !/^(\.\/stateMachine\.ts|\.\.\/\.\.\/protocol\/.*)$/.test(specifier))
      assert.deepStrictEqual(foreign, [], file)
    }
  })

  it("read every form of an import line", () => {
    const found = importsOf(
      [
        `import * as Effect from "effect/Effect"`,
        `import type { A } from "./a.ts"`,
        `import {\n  b,\n  type C\n} from "./b.ts"`,
        `export * as D from "./d.ts"`,
        `export * from "./e.ts"`,
        `import "./f.ts"`,
        `/**\n * import * as G from "./g.ts"\n */`,
        `const h: import("./h.ts").H = 1`
      ].join("\n")
    )
    assert.deepStrictEqual(found.map((one) => one.specifier), [
      "effect/Effect",
      "./a.ts",
      "./b.ts",
      "./d.ts",
      "./e.ts",
      "./f.ts",
      "./h.ts"
    ])
    assert.deepStrictEqual(found.filter((one) => one.typeOnly).map((one) => one.specifier), ["./a.ts"])
  })

  it("object to what the table forbids", () => {
    assert.isDefined(objection(edge("protocol/A.ts", "effect/Effect")))
    assert.isDefined(objection(edge("protocol/A.ts", "node:buffer")))
    assert.isDefined(objection(edge("server/A.ts", "effect")))
    assert.isDefined(objection(edge("http/A.ts", "effect/http")))
    assert.isDefined(objection(edge("server/A.ts", "effect/http/HttpServer")))
    assert.isDefined(objection(edge("server/A.ts", "@effect/platform-node/NodeSocket")))
    assert.isDefined(objection(edge("http/A.ts", "../connection/FastCgiTransport.ts", true)))
    assert.isDefined(objection(edge("cgi/A.ts", "../protocol/FastCgiParams.ts")))
    assert.isDefined(objection(edge("connection/A.ts", "../server/FastCgiListener.ts")))
    assert.isDefined(objection(edge("client/A.ts", "../node/NodeFastCgi.ts")))
    assert.isDefined(objection(edge("server/A.ts", "./index.ts")))
    assert.isDefined(objection(edge("server/A.ts", "./B")))
    assert.isDefined(objection(edge("server/A.ts", "../../test/support/requirement.ts")))
    assert.isUndefined(objection(edge("cgi/A.ts", "../protocol/FastCgiParams.ts", true)))
    assert.isUndefined(objection(edge("server/internal/a.ts", "../../connection/FastCgiTransport.ts")))
    assert.isUndefined(objection(edge("node/A.ts", "node:net")))
  })
})
