/**
 * The application behind Apache: mod_proxy_fcgi, which connects to it, and mod_fcgid, which starts it.
 */
import { describe, layer } from "@effect/vitest"
import { describeWith } from "../support/requirement.ts"
import * as Apache from "./support/apache.ts"
import { cases } from "./support/cases.ts"

const options = { excludeTestServices: true, timeout: "30 seconds" } as const

describeWith(["apache2"], "Apache", (apache) => {
  const sites = [
    ["mod_proxy_fcgi", [...Apache.proxyPages, ...Apache.proxyMatrix]],
    ["mod_fcgid", [...Apache.fcgidPages, ...Apache.fcgidMatrix]]
  ] as const
  for (const [kind, rows] of sites) {
    layer(Apache.layer(apache!, kind, rows), options)(kind, (it) => {
      for (const row of rows) describe(row.name, () => cases(it, row))
    })
  }
})
