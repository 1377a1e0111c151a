/**
 * Bare node:http.
 */
import * as Http from "node:http"

Http.createServer((_, response) => response.end("Hello")).listen(process.argv[2])
