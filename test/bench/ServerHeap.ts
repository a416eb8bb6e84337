/** The memory of a gateway that was started with `inspectable`, by the inspector of Node: after a full garbage collection. */
import type { Server } from "./Server.ts"

/** An option of Node: the inspector listens on any free port, and costs nothing until it is asked. */
export const inspectable = "--inspect=127.0.0.1:0"

/** In KB. */
export interface Heap {
  /** Live objects of JavaScript. */
  readonly used: number
  /** Memory that such objects hold outside of the heap. */
  readonly external: number
}

/** The address of the inspector, from the output of the server. The first one is that of the program before it was given its options of V8. */
export const inspectorOf = ({ output }: Pick<Server, "output">): string => {
  const address = [...output().matchAll(/Debugger listening on (ws:\S+)/g)].at(-1)?.[1]
  if (address === undefined) throw new Error(`The server has no inspector: ${output()}`)
  return address
}

type Reply = { readonly id: number; readonly result: { readonly result?: { readonly value: NodeJS.MemoryUsage } } }

/** Collects all garbage, also of the young generation. Returns the memory that is left. */
export const collectGarbage = async (inspector: string): Promise<Heap> => {
  const socket = new WebSocket(inspector)
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = () => reject(new Error(`No connection to ${inspector}`))
  })
  let last = 0
  const call = (method: string, params: object = {}): Promise<Reply["result"]> =>
    new Promise((resolve) => {
      const id = ++last
      socket.addEventListener("message", function answered({ data }) {
        const reply = JSON.parse(String(data)) as Reply
        if (reply.id !== id) return
        socket.removeEventListener("message", answered)
        resolve(reply.result)
      })
      socket.send(JSON.stringify({ id, method, params }))
    })
  // What the first collection finalizes is free after the second one.
  for (let round = 0; round < 2; round++) await call("HeapProfiler.collectGarbage")
  const { result } = await call("Runtime.evaluate", { expression: "process.memoryUsage()", returnByValue: true })
  socket.close()
  const { external, heapUsed } = result!.value
  return { used: heapUsed / 1_024, external: external / 1_024 }
}
