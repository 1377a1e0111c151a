/** The part of node-fastcgi that the benchmark uses; the package has no declarations of its own. */
declare module "node-fastcgi" {
  import type { IncomingMessage, ServerResponse } from "node:http"
  import type { Server } from "node:net"

  const fastcgi: {
    createServer(
      responder: (request: IncomingMessage & { readonly url: string }, response: ServerResponse) => void
    ): Server
  }
  export default fastcgi
}
