/**
 * The order of the files of tests. The two that run at the same time end together when what takes longest is begun first.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Take half a minute, more or less, though they are short: on a machine that has not run them yet Vitest goes by length. */
const long = [
  "examples/boardPage",
  "servers/scaleOut",
  "servers/workersLoad",
  "servers/tutorial",
  "servers/load",
  "conformance/command",
  "conformance/ways",
  "examples/main",
  "examples/cluster",
  "site/site",
  "servers/soak",
  "client/gatewaySuite",
  "node/workers",
  "node/cgi"
]

/** Look at V8's heap, and see there what the files before them have left. Why that is three times as much is not known. */
const fresh = ["server/comeAndGo"]

const isOneOf = (files: ReadonlyArray<string>) => ({ moduleId }: TestSpecification): boolean =>
  files.some((file) => moduleId.endsWith(`/test/${file}.test.ts`))

const ranks = [isOneOf(fresh), isOneOf(long), () => true]

const rankOf = (file: TestSpecification): number => ranks.findIndex((isOf) => isOf(file))

export class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    const projects = new Set(sorted.map(({ project }) => project))
    return [...projects].flatMap((project) => {
      return sorted.filter((file) => file.project === project).sort((a, b) => rankOf(a) - rankOf(b))
    })
  }
}
