/**
 * Puts the programs together that tests start. Vitest runs it before the tests, and again when it watches and a file has changed.
 */
import * as Path from "node:path"
import { rolldown } from "rolldown"
import type { TestProject } from "vitest/node"
import { projectRoot } from "./files.ts"
import { folder, programs } from "./programFile.ts"

const source = (path: string) => Path.join(projectRoot, "src", path)

const build = async (): Promise<void> => {
  const bundle = await rolldown({
    input: Object.fromEntries(programs.map((path) => [path.replace(/\.ts$/, ""), Path.join(projectRoot, path)])),
    platform: "node",
    resolve: {
      alias: {
        "effect-fastcgi": source("index.ts"),
        ...Object.fromEntries(["http", "client", "node", "testing"].map((entry) => [
          `effect-fastcgi/${entry}`,
          source(`${entry}/index.ts`)
        ]))
      }
    }
  })
  await bundle.write({ dir: folder, format: "esm", chunkFileNames: "shared/[name]-[hash].js" })
  await bundle.close()
}

export const setup = async (project: TestProject): Promise<void> => {
  project.onTestsRerun(build)
  // Two projects ask for it.
  if (process.env["PROGRAMS_ARE_BUILT"] !== undefined) return
  process.env["PROGRAMS_ARE_BUILT"] = "yes"
  await build()
}
