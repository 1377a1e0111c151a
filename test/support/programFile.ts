/**
 * The programs that tests start, each as one file: a process that loads the sources one by one takes a second of CPU on the way,
 * hundreds of times in a run.
 */
import * as Path from "node:path"
import { projectRoot } from "./files.ts"

/** Where the files are. Each version of Node has its own, since several run the tests side by side. */
export const folder = Path.join(projectRoot, "node_modules/.cache/programs", process.version)

/** The programs. `setupPrograms.ts` puts each together, from the sources as they are, before the first test. */
export const programs = [
  "conformance/effect-fastcgi/main.ts",
  "test/node/fixtures/activated.ts",
  "test/node/fixtures/app.ts",
  "test/node/fixtures/cgi.ts",
  "test/node/fixtures/cluster.ts",
  "test/node/fixtures/descriptors.ts",
  "test/node/fixtures/inherited.ts",
  "test/node/fixtures/life.ts",
  "test/node/fixtures/workers.ts",
  "test/servers/app.ts",
  "test/servers/authorizer.ts",
  "test/support/stdioServer.ts"
] as const

/** The file to run for a program. */
export const programFile = (source: typeof programs[number]): string => Path.join(folder, source.replace(/ts$/, "js"))
