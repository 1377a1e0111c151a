/**
 * Tests of FastCGI applications without a socket.
 *
 * @since 0.1.0
 */
export * as FastCgiTest from "./FastCgiTest.ts"
