/**
 * The app of nodeHttp.ts, served over FastCGI.
 */
import { NodeFastCgiApp } from "effect-fastcgi/node"
import { socketPath } from "./content.ts"
import { app } from "./nodeApp.ts"

NodeFastCgiApp.serveNode(app, { path: socketPath() })
