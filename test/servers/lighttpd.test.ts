/**
 * The application behind lighttpd, which connects to it or starts it, in every way to stream.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import { cases } from "./support/cases.ts"
import * as Lighttpd from "./support/lighttpd.ts"

describeWith(["lighttpd"], "lighttpd", (lighttpd) => {
  for (const backend of ["UNIX", "TCP", "bin-path"] as const) {
    layer(Lighttpd.layer(lighttpd!, backend), { excludeTestServices: true, timeout: "30 seconds" })(
      `${backend}, `,
      (it) => {
        for (const row of Lighttpd.matrix) describe(row.name, () => cases(it, row))
      }
    )
  }
})
