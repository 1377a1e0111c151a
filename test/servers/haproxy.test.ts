/**
 * The application behind HAProxy: every case in every way to use a connection, and as docs/haproxy.md says.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import { cases } from "./support/cases.ts"
import * as HAProxy from "./support/haproxy.ts"

const rows = [...HAProxy.pages, ...HAProxy.matrix]

describeWith(["haproxy"], "haproxy", (haproxy) => {
  layer(HAProxy.layer(haproxy!, rows), { excludeTestServices: true })((it) => {
    for (const row of rows) describe(row.name, () => cases(it, row))
  })
})
