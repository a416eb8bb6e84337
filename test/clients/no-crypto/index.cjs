// matrix-bot-sdk reads these enumerations while it is loaded; all else of the module is only for encrypted rooms.
module.exports = { StoreType: { Sqlite: 0 } }
