/// What a bench answers with: rows of ours beside a peer's, each with its bar and verdict.

import JSON
import Tables

/// What ours must reach.
enum Bar {
  case atMost(Double)
  /// Ours may cost at most this share of the peer.
  case ratio(Double)
}

struct Row {
  /// What is measured, the size included: `set element added, 1,000 endpoints`.
  var what: String
  /// `ms CPU`, `µs CPU/route`
  var unit: String
  var ours: Double?
  var oursP99: Double?
  var peerName: String?
  var peer: Double?
  var bar: Bar?
  /// Why it is behind, or why it could not run.
  var note: String?

  var ratio: Double? {
    guard let ours, let peer, peer > 0 else { return nil }
    return ours / peer
  }
  enum Verdict: String { case ok, behind = "BEHIND", open = "-", failed = "FAILED" }
  var verdict: Verdict {
    guard let ours else { return .failed }
    return switch bar {
    case nil: .open
    case .atMost(let limit)?: ours <= limit ? .ok : .behind
    case .ratio(let limit)?: ratio.map { $0 <= limit ? .ok : .behind } ?? .failed
    }
  }
}

/// Collects rows and tells progress.
final class Report {
  private(set) var rows: [Row] = []
  let say: (String) -> Void
  init(say: @escaping (String) -> Void) { self.say = say }

  func add(
    _ what: String, _ unit: String, _ ours: Samples, peer: (name: String, samples: Samples)? = nil, bar: Bar? = nil, note: String? = nil
  ) {
    let enough = ours.count >= 20
    rows.append(
      Row(
        what: what, unit: unit, ours: ours.median, oursP99: enough ? ours.quantile(0.99) : nil, peerName: peer?.name,
        peer: peer?.samples.median, bar: bar, note: note))
    say("  \(what): \(Figure.text(ours.median)) \(unit)")
  }
  func add(_ row: Row) { rows.append(row) }
}

enum Figure {
  /// Three digits that count.
  static func text(_ value: Double?) -> String {
    guard let value, value.isFinite else { return "-" }
    let size = abs(value)
    let decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : size >= 0.1 ? 3 : 4
    let scale = [1.0, 10, 100, 1000, 10000][decimals]
    let whole = (size * scale).rounded()
    var digits = "\(Int64(whole))"
    if decimals > 0 {
      while digits.count <= decimals { digits = "0" + digits }
      digits.insert(".", at: digits.index(digits.endIndex, offsetBy: -decimals))
    }
    return (value < 0 ? "-" : "") + digits
  }
}

extension Row {
  init(json: JSONValue) {
    let bar: Bar? = json["atMost"]?.double.map { .atMost($0) } ?? json["ratioAtMost"]?.double.map { .ratio($0) }
    self.init(
      what: json["what"]?.string ?? "", unit: json["unit"]?.string ?? "", ours: json["ours"]?.double, oursP99: json["oursP99"]?.double,
      peerName: json["peerName"]?.string, peer: json["peer"]?.double, bar: bar, note: json["note"]?.string)
  }
  var json: JSONValue {
    var json: JSONValue = ["what": .string(what), "unit": .string(unit)]
    func set(_ name: String, _ value: Double?) { if let value, value.isFinite { json[name] = .double(value) } }
    set("ours", ours)
    set("oursP99", oursP99)
    if let peerName { json["peerName"] = .string(peerName) }
    set("peer", peer)
    set("ratio", ratio)
    switch bar {
    case nil: break
    case .atMost(let limit)?: set("atMost", limit)
    case .ratio(let limit)?: set("ratioAtMost", limit)
    }
    json["verdict"] = .string(verdict.rawValue)
    if let note { json["note"] = .string(note) }
    return json
  }
  var barText: String {
    switch bar {
    case nil: ""
    case .atMost(let limit)?: "≤ \(Figure.text(limit))"
    case .ratio(let limit)?: "≤ \(Figure.text(limit)) × peer"
    }
  }
}

/// One bench's rows with what the machine did meanwhile.
struct Section {
  var name: String
  var abstract: String
  var rows: [Row]
  var seconds: Double
  var load: String

  func table(_ palette: Palette) -> String {
    var table = TextTable(["measure", "unit", "ours>", "p99>", "peer>", "", "ours/peer>", "bar", "verdict"])
    for row in rows {
      let verdict = row.verdict
      let style: [Style] = verdict == .ok ? [.green] : verdict == .behind || verdict == .failed ? [.red] : []
      var last = TextTable.Cell(verdict.rawValue)
      last.styles = style
      table.append([
        .init(row.what), .init(row.unit), .init(Figure.text(row.ours)), .init(Figure.text(row.oursP99)), .init(Figure.text(row.peer)),
        .init(row.peerName ?? ""), .init(row.ratio.map { Figure.text($0) } ?? "-"), .init(row.barText), last,
      ])
    }
    var text = table.text(palette)
    for row in rows where row.note != nil && (row.verdict == .behind || row.verdict == .failed) {
      text += "  \(row.what): \(row.note!)\n"
    }
    return text
  }
}
