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

const isLong = ({ moduleId }: TestSpecification): boolean =>
  long.some((file) => moduleId.endsWith(`/test/${file}.test.ts`))

export class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    const projects = new Set(sorted.map(({ project }) => project))
    return [...projects].flatMap((project) => {
      const own = sorted.filter((file) => file.project === project)
      return [...own.filter(isLong), ...own.filter((file) => !isLong(file))]
    })
  }
}
