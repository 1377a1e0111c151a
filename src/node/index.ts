/**
 * FastCGI on Node: listening sockets, the connector of the client, and `NodeFastCgi`, the one Layer that an Effect HTTP
 * app swaps for `NodeHttpServer`.
 *
 * @since 0.1.0
 */
export * as NodeFastCgiConnector from "./NodeFastCgiConnector.ts"
export * as NodeFastCgiListener from "./NodeFastCgiListener.ts"
