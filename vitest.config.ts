import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    // Tests and examples say what a user says, and run on the sources.
    alias: [
      { find: /^effect-fastcgi$/, replacement: source("./src/index.ts") },
      { find: /^effect-fastcgi\/(http|client|node|testing)$/, replacement: source("./src/$1/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    // Real servers and large bodies on a small shared machine; a test waits for events, so only a failure takes this long.
    testTimeout: 30_000,
    hookTimeout: 30_000
  }
})
