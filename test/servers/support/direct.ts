/**
 * Requests to the application without a web server in between.
 */
import { FastCgiHttpClient } from "effect-fastcgi/client"
import { NodeFastCgiConnector } from "effect-fastcgi/node"
import * as Effect from "effect/Effect"

/** Asks for the path over a connection of its own: the status and the body. */
export const call = (to: NodeFastCgiConnector.NodeFastCgiConnectorOptions, target: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* FastCgiHttpClient.make({ connect: NodeFastCgiConnector.connect(to) })
    const response = yield* client.get(`http://localhost${target}`)
    return { status: response.status, text: yield* response.text }
  }))
