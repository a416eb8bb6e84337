/**
 * `@effect/sql-pg` 4.0.5 keeps the rows of each statement that a connection has answered until its pipeline is empty. A connection that is
 * never idle would keep all rows that it has ever read. This forgets each answered statement at once.
 */
interface Pipeline {
  readonly pipelineInFlight: Array<unknown>
  readonly pipelineHead: number
  finishPipelineEntry: (entry: unknown, result: unknown) => void
}

const isPipeline = (connection: object): connection is Pipeline =>
  "pipelineInFlight" in connection && "pipelineHead" in connection && "finishPipelineEntry" in connection

const mended = new WeakSet<object>()

/** The connection, which forgets the statements that it has answered. */
export const forgettingAnswered = <Connection extends object>(connection: Connection): Connection => {
  if (mended.has(connection) || !isPipeline(connection)) return connection
  mended.add(connection)
  const finish = connection.finishPipelineEntry
  connection.finishPipelineEntry = (entry, result) => {
    const { pipelineHead } = connection
    finish(entry, result)
    if (connection.pipelineHead > pipelineHead) connection.pipelineInFlight[pipelineHead] = undefined
  }
  return connection
}
