/**
 * The application behind Caddy: every case over both transports, with and without buffering, and as docs/caddy.md says.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import * as Caddy from "./support/caddy.ts"
import { cases } from "./support/cases.ts"

const rows = [...Caddy.pages, ...Caddy.matrix]

describeWith(["caddy"], "caddy", (caddy) => {
  layer(Caddy.layer(caddy!, rows), { excludeTestServices: true })((it) => {
    for (const row of rows) describe(row.name, () => cases(it, row))
  })
})
