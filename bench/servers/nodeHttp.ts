/**
 * Bare node:http, without a framework.
 */
import * as Http from "node:http"
import { socketPath } from "./content.ts"
import { app } from "./nodeApp.ts"

Http.createServer(app).listen({ path: socketPath(), backlog: 511 })
