/** Commits one INSERT after the other, each worker on a connection of its own, without any server before PostgreSQL. */
import { serveLoad } from "../LoadProcess.ts"
import { type ClosedLoop, closedLoop, type Throughput } from "./ClosedLoop.ts"
import { PostgresConnection } from "./PostgresConnection.ts"

export interface InsertsInput extends ClosedLoop {
  /** The Unix socket of PostgreSQL. */
  readonly socketPath: string
  readonly connections: number
  /** How many bytes a row has. */
  readonly rowBytes: number
}

const createTable =
  "CREATE TABLE IF NOT EXISTS baseline (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)"

serveLoad(async ({ connections, rowBytes, socketPath, ...loop }: InsertsInput): Promise<Throughput> => {
  const open = () => PostgresConnection.open(socketPath, "greenroom", "greenroom")
  const first = await open()
  await first.query(createTable)
  const all = [first, ...(await Promise.all(Array.from({ length: connections - 1 }, open)))]
  await Promise.all(all.map((connection) => connection.prepare("INSERT INTO baseline (body) VALUES ($1)")))
  const row = ["x".repeat(rowBytes)]
  return closedLoop(loop, connections, (worker) => all[worker]!.run(row))
})
