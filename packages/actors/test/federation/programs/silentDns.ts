/**
 * Looks names up whose DNS server stays silent, and then one that it knows. Prints each when it is settled. For a network namespace
 * whose DNS server is 127.0.0.1.
 */
import { createSocket } from "node:dgram"
import { lookupAllowed } from "../../../src/federation/AddressPolicy.ts"

const known = Buffer.from([203, 0, 114, 1])

/** Answers questions for the addresses of `known.test` (RFC 1035). */
const server = createSocket("udp4")
server.on("message", (question, { address, port }) => {
  const end = question.indexOf(0, 12) + 5
  if (!question.toString("latin1", 12, end).startsWith("\u0005known")) return
  const isIpv4 = question.readUInt16BE(end - 4) === 1
  const answer = Buffer.concat([Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]), known])
  const head = Buffer.from([question[0]!, question[1]!, 0x81, 0x80, 0, 1, 0, isIpv4 ? 1 : 0, 0, 0, 0, 0])
  server.send(Buffer.concat([head, question.subarray(12, end), isIpv4 ? answer : Buffer.alloc(0)]), port, address)
})

const look = (name: string) =>
  lookupAllowed("public")(name, { all: true }, (error, addresses) => {
    console.log(name, error?.code ?? JSON.stringify(addresses))
    if (name === "known.test") process.exit()
  })

server.bind(53, "127.0.0.1", () => {
  for (let count = 0; count < 8; count++) look(`silent${count}.test`)
  setTimeout(look, 100, "known.test")
})
