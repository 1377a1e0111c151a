/**
 * The application behind lighttpd, which connects to it or starts it, in every way to stream, and as docs/lighttpd.md says.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import { cases } from "./support/cases.ts"
import * as Lighttpd from "./support/lighttpd.ts"

const options = { excludeTestServices: true } as const

describeWith(["lighttpd"], "lighttpd", (lighttpd) => {
  for (const backend of ["UNIX", "TCP", "bin-path"] as const) {
    layer(Lighttpd.layer(lighttpd!, backend), options)(backend, (it) => {
      for (const row of Lighttpd.matrix) describe(row.name, () => cases(it, row))
    })
  }
  for (const backend of ["UNIX", "bin-path"] as const) {
    const page = Lighttpd.page(lighttpd!, backend)
    layer(page.layer, options)(page.row.name, (it) => cases(it, page.row))
  }
})
