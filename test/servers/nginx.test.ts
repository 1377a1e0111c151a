/**
 * The application behind nginx: every case in every configuration that changes how nginx speaks to it, and in those of
 * docs/nginx.md.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import { cases } from "./support/cases.ts"
import * as Nginx from "./support/nginx.ts"

const rows = [...Nginx.pages, ...Nginx.matrix]

describeWith(["nginx"], "nginx", (nginx) => {
  layer(Nginx.layer(nginx!, rows), { excludeTestServices: true })((it) => {
    for (const row of rows) describe(row.name, () => cases(it, row))
  })
})
