// Without the command: FCGI_GET_VALUES, which any application answers whose event loop runs. node health.mjs /run/app/app.sock
import { connect } from "node:net"
const ask = Buffer.from([1, 9, 0, 0, 0, 17, 0, 0, 15, 0, ...Buffer.from("FCGI_MPXS_CONNS")])
const socket = connect(process.argv[2], () => socket.write(ask)).setTimeout(2000, () => process.exit(1))
socket.once("data", () => process.exit(0)).once("error", () => process.exit(1)).once("end", () => process.exit(1))
