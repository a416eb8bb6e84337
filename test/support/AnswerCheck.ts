/**
 * A proxy between the clients and a server that checks every answer against the specification.
 */
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import type { Specification } from "./Specification.ts"

export interface Recorder {
  /** The URL at which clients reach the server through the proxy. */
  readonly url: string
  /** The answers since the last call. */
  readonly take: () => Recorded
}

export interface Recorded {
  /** Answers that did not fit the specification, each with how often it occurred. */
  readonly problems: ReadonlyArray<string>
  /** A line for each request: status, method, URL, and the body of an answer that is an error. */
  readonly requests: ReadonlyArray<string>
}

const decoder = new TextDecoder()

const jsonOf = (chunks: ReadonlyArray<Buffer>, headers: IncomingMessage["headers"]): unknown => {
  if (!headers["content-type"]?.startsWith("application/json")) return undefined
  try {
    return JSON.parse(decoder.decode(Buffer.concat(chunks)))
  } catch {
    return "invalid JSON"
  }
}

/** Runs the proxy on loopback while `use` runs. */
export const withRecorder = async <A>(
  url: string,
  specification: Specification,
  use: (recorder: Recorder) => Promise<A>
): Promise<A> => {
  const problems = new Map<string, number>()
  const count = (problem: string) => problems.set(problem, (problems.get(problem) ?? 0) + 1)
  let requests: Array<string> = []
  const agent = new Agent({ keepAlive: true })
  const target = new URL(url)

  const examine = (method: string, path: string, answer: IncomingMessage, chunks: ReadonlyArray<Buffer>) => {
    const status = answer.statusCode ?? 0
    const body = jsonOf(chunks, answer.headers)
    const pathname = new URL(path, url).pathname
    const name = specification.nameOf(method, pathname) ?? `${method} ${pathname}`
    requests.push(`${status} ${method} ${path}${status >= 400 ? ` ${JSON.stringify(body)}` : ""}`)
    if (status >= 500) count(`${name} ${status}`)
    const type = answer.headers["content-type"]
    for (const problem of specification.check({ method, path: pathname, status, body, type })) {
      count(`${name} ${status}: ${problem}`)
    }
  }

  const forward = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { "accept-encoding": _, ...headers } = incoming.headers
    const { method = "GET", url: path = "/" } = incoming
    const upstream = request(
      { agent, host: target.hostname, port: target.port, method, path, headers, setHost: false },
      (answer) => {
        const chunks: Array<Buffer> = []
        outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
        answer.on("data", (chunk: Buffer) => chunks.push(chunk))
        answer.on("end", () => examine(method, path, answer, chunks))
        answer.pipe(outgoing)
      }
    )
    upstream.on("error", () => outgoing.destroy())
    outgoing.on("close", () => upstream.destroy())
    incoming.pipe(upstream)
  }

  const server = createServer(forward)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    return await use({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      take: () => {
        const taken = { problems: Array.from(problems, ([problem, count]) => `${problem} (${count})`), requests }
        problems.clear()
        requests = []
        return taken
      }
    })
  } finally {
    agent.destroy()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
}
