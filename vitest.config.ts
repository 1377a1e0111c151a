import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { inMemory, withSockets } from "./test/support/inMemory.ts"

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Tests that start web servers, browsers and the example app: one file at a time, when the others are done. */
const withPrograms = [
  "test/servers/**/*.test.ts",
  "test/examples/**/*.test.ts",
  "test/client/phpFpm.test.ts",
  "test/client/fcgiwrap.test.ts",
  "test/conformance/command.test.ts"
]

/** Tests that need nothing but memory. */
const memory = inMemory.map((folder) => `test/${folder}/**/*.test.ts`)
const notInMemory = Array.from(withSockets.keys(), (file) => `test/${file}`)
const onSockets = [
  ...notInMemory.filter((file) => file.endsWith(".test.ts") && !withPrograms.includes(file)),
  "test/{node,conformance,project}/**/*.test.ts"
]

/** Real servers and browsers have deadlines that a small shared machine may miss: in CI once more, which the report shows. */
const retryPrograms = process.env.CI === undefined ? 0 : 1

export default defineConfig({
  resolve: {
    // Tests and examples say what a user says, and run on the sources.
    alias: [
      { find: /^effect-fastcgi$/, replacement: source("./src/index.ts") },
      { find: /^effect-fastcgi\/(http|client|node|testing)$/, replacement: source("./src/$1/index.ts") }
    ]
  },
  test: {
    // Real servers and large bodies on a small shared machine; a test waits for events, so only a failure takes this long.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: {
          name: "memory",
          include: memory,
          exclude: notInMemory,
          maxWorkers: 2,
          sequence: { groupOrder: 0 }
        }
      },
      {
        extends: true,
        test: {
          name: "sockets",
          include: onSockets,
          exclude: withPrograms,
          maxWorkers: 2,
          sequence: { groupOrder: 1 }
        }
      },
      {
        extends: true,
        test: {
          name: "programs",
          include: withPrograms,
          retry: retryPrograms,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 2 }
        }
      }
    ]
  }
})
