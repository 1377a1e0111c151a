/**
 * `node:http`, without what an `import` of it loads besides: the names of an ES module include those of `WebSocket`, for which Node
 * loads undici, a tenth of the start of an app that may never need HTTP.
 */
import type * as NodeHttp from "node:http"

export const http: typeof NodeHttp = process.getBuiltinModule("node:http")
