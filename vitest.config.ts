import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { filesOver, wayNames } from "./test/support/everyWay.ts"
import { inMemory, slow, withSockets } from "./test/support/inMemory.ts"
import { LongestFirst } from "./test/support/longestFirst.ts"

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Tests that start web servers, browsers and the example app: when the others are done. */
const withPrograms = [
  "test/servers/**/*.test.ts",
  "test/examples/**/*.test.ts",
  "test/client/phpFpm.test.ts",
  "test/client/phpErrors.test.ts",
  "test/client/phpPool.test.ts",
  "test/client/fcgiwrap.test.ts",
  "test/client/othersPool.test.ts",
  "test/php/**/*.test.ts",
  "test/conformance/command.test.ts",
  "test/cli/request.test.ts",
  "test/cli/health.test.ts",
  "test/cli/capture.test.ts",
  "test/cli/docs.test.ts",
  "test/cli/terminal.test.ts",
  "test/cli/serving.test.ts",
  "test/site/**/*.test.ts"
]

/** Tests that need nothing but memory. */
const memory = inMemory.map((folder) => `test/${folder}/**/*.test.ts`)
const notInMemory = Array.from(withSockets.keys(), (file) => `test/${file}`)

/** `npm run test:quick`: what takes longest is left out, and of the random cases a few are tried. */
const inQuick = {
  left: Array.from(slow.keys(), (file) => `test/${file}`),
  /** Node has no part in what they try. */
  leftOnSockets: ["test/conformance/**", "test/project/**", "test/client/gatewaySuite.test.ts"],
  fuzzCases: 2000
}

const onSockets = [
  ...notInMemory.filter((file) => file.endsWith(".test.ts") && !withPrograms.includes(file)),
  "test/{node,conformance,project}/**/*.test.ts"
]

// The applications and servers that tests start, some hundreds, need half the time to start when what V8 has compiled is kept.
process.env.NODE_COMPILE_CACHE ??= source("./node_modules/.cache/compiled")

/** The tests of a server run over a bare channel as well, and with `FULL=1` over every way. */
const isFull = process.env.FULL !== undefined
const otherWays = wayNames.filter((way) => filesOver(way, isFull).length > 0)

const programs = "test/support/setupPrograms.ts"

export default defineConfig(({ mode }) => ({
  resolve: {
    // Tests and examples say what a user says, and run on the sources.
    alias: [
      { find: /^effect-fastcgi$/, replacement: source("./src/index.ts") },
      { find: /^effect-fastcgi\/(http|client|node|testing)$/, replacement: source("./src/$1/index.ts") }
    ]
  },
  test: {
    // A test waits for events, each with a limit of its own that says what did not come; this is for what has none. A machine that
    // is busy with other things must not reach it.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // A file loads Effect and the sources in a second, and all files of a project one after the other in one process do so once.
    isolate: false,
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    provide: { way: "over the transport" },
    env: mode === "quick" ? { FUZZ_CASES: String(inQuick.fuzzCases) } : {},
    projects: [
      {
        extends: true,
        test: {
          name: "memory",
          include: memory,
          exclude: [...notInMemory, ...(mode === "quick" ? inQuick.left : [])],
          sequence: { groupOrder: 0 }
        }
      },
      ...otherWays.map((way) => ({
        extends: true,
        test: {
          name: way,
          include: filesOver(way, isFull).map((file) => `test/${file}`),
          provide: { way },
          sequence: { groupOrder: 0 }
        }
      } as const)),
      {
        extends: true,
        test: {
          name: "sockets",
          globalSetup: programs,
          include: onSockets,
          exclude: [...withPrograms, ...(mode === "quick" ? inQuick.leftOnSockets : [])],
          sequence: { groupOrder: 1 }
        }
      },
      {
        extends: true,
        test: {
          name: "programs",
          globalSetup: programs,
          include: withPrograms,
          sequence: { groupOrder: 2 }
        }
      }
    ]
  }
}))
