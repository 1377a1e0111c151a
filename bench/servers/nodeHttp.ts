/**
 * Bare node:http, without a framework.
 */
import * as Http from "node:http"
import { backlog, socketPath } from "./content.ts"
import { app } from "./nodeApp.ts"

// Connections that carry nothing are kept for as long as a benchmark holds them.
Http.createServer({ keepAliveTimeout: 120_000 }, app).listen({ path: socketPath(), backlog })
