/// Felix's settings as told: to the log, in the status, and by `margay felix config`.
import Documents
public import FelixSettings
public import JSON
import Logging
public import Resources

public struct SettingsReport: Hashable, Sendable {
  public struct Row: Hashable, Sendable {
    public struct Given: Hashable, Sendable {
      public var source: String
      public var value: JSONValue
    }
    public var parameter: FelixParameter
    /// Strongest first: the first is in force.
    public var given: [Given] = []
    public var faults: [String] = []

    public var value: String { given.first.map { Self.text($0.value) } ?? parameter.usual }
    public var source: String { given.first?.source ?? "default" }
    public var effect: String {
      switch parameter.effect {
      case .used: "in force"
      case .later: "none yet"
      case .never(let why): "none: \(why)"
      }
    }
    public static func text(_ value: JSONValue) -> String { value.string ?? value.text() }
  }
  /// Every setting, in the order of the table.
  public private(set) var rows: [Row]
  /// What is wrong, in words.
  public private(set) var problems: [String]

  public init(_ resolution: SettingsResolution) {
    rows = FelixParameter.all.filter { $0.field != "nodeSelector" }.map { parameter in
      let setting = resolution.setting(parameter)
      return Row(
        parameter: parameter, given: setting.given.map { .init(source: $0.source.description, value: ResourceCodec.json($0.value)) },
        faults: setting.faults)
    }
    problems = Self.problems(resolution)
  }

  private static func problems(_ resolution: SettingsResolution) -> [String] {
    resolution.problems + resolution.findings.sorted { $0.key < $1.key }.map { "FelixConfiguration \($0.key): \($0.value)" }
  }

  // MARK: In the status of a running Felix

  /// Only what somebody says: the rest is the table's.
  public var json: JSONValue {
    let said = rows.filter { !$0.given.isEmpty || !$0.faults.isEmpty }
    return [
      "rows": .array(
        said.map { row in
          var document: JSONValue = ["name": .string(row.parameter.field)]
          document["given"] = .array(row.given.map { ["source": .string($0.source), "value": $0.value] })
          if !row.faults.isEmpty { document["faults"] = .array(row.faults.map { .string($0) }) }
          return document
        }),
      "problems": .array(problems.map { .string($0) }),
    ]
  }

  /// Nil: it is not what `json` gives.
  public init?(_ document: JSONValue) {
    guard let said = document["rows"]?.array else { return nil }
    rows = FelixParameter.all.filter { $0.field != "nodeSelector" }.map { parameter in
      let row = said.first { $0["name"]?.string == parameter.field }
      let given = row?["given"]?.array ?? []
      return Row(
        parameter: parameter, given: given.map { .init(source: $0["source"]?.string ?? "?", value: $0["value"] ?? nil) },
        faults: (row?["faults"]?.array ?? []).compactMap(\.string))
    }
    problems = (document["problems"]?.array ?? []).compactMap(\.string)
  }

  // MARK: In the log

  /// What differs from before, a line each; with no before, what is not the default.
  static func news(_ now: SettingsResolution, after before: SettingsResolution?) -> [(level: Logger.Level, text: String)] {
    var lines: [(level: Logger.Level, text: String)] = []
    // Findings are told by whoever gathers those of all objects.
    let known = Set(before?.problems ?? [])
    lines += now.problems.filter { !known.contains($0) }.map { (.warning, "settings: \($0)") }
    let notes = Set(before?.notes ?? [])
    lines += now.notes.filter { !notes.contains($0) }.map { (.info, "settings: \($0)") }
    for parameter in FelixParameter.all where now.effective.values[parameter.field] != before?.effective.values[parameter.field] {
      let value = now.setting(parameter).given.first
      let text = value.map { "\(Row.text(ResourceCodec.json($0.value))), as \($0.source) says" } ?? "\(parameter.usual), the default"
      lines.append((.notice, "setting \(parameter.field): \(text)"))
    }
    return lines
  }
}
