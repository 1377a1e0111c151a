import { defineConfig } from "vitest/config"

const source = (path: string) => new URL(path, import.meta.url).pathname

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-fastcgi$/, replacement: source("./src/index.ts") },
      { find: /^effect-fastcgi\/(http|client|node|testing)$/, replacement: source("./src/$1/index.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"]
  }
})
