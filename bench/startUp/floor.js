/**
 * What a process needs to listen: `node:net` and nothing else.
 */
import * as Net from "node:net"

Net.createServer((socket) => socket.destroy()).listen(process.argv[2])
