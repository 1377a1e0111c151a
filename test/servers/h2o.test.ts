/**
 * The application behind h2o: every case over both transports, and as docs/h2o.md says.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import { cases } from "./support/cases.ts"
import * as H2o from "./support/h2o.ts"

const rows = [...H2o.pages, ...H2o.matrix]

describeWith(["h2o"], "h2o", (h2o) => {
  layer(H2o.layer(h2o!, rows), { excludeTestServices: true })((it) => {
    for (const row of rows) describe(row.name, () => cases(it, row))
  })
})
