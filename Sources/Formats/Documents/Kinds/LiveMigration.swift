/// A workload that moves while it runs.
import JSON
import Resources

extension FieldReader {
  func liveMigrationSpec() -> LiveMigrationSpec {
    let spec = LiveMigrationSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: LiveMigrationSpec) -> JSONObject {
    JSONObject()
  }
}
