/// Metrics as Prometheus reads them: the text exposition format, version 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/).
///
/// A page is a value: families in the order of their adding, each told once with its help and type, whatever the order of its samples.

public struct MetricsPage: Sendable {
  public enum Kind: String, Sendable { case counter, gauge, histogram, summary }
  public typealias Labels = KeyValuePairs<String, String>
  /// What a server says of the page's type.
  public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private struct Family {
    let name: String
    let kind: Kind
    let help: String
    var samples: [String] = []
  }
  private var families: [Family] = []
  private var places: [String: Int] = [:]

  public init() {}

  public mutating func gauge(_ name: String, _ help: String, _ value: Double, _ labels: Labels = [:]) {
    add(name, .gauge, help, [Self.sample(name, labels, value)])
  }
  public mutating func gauge(_ name: String, _ help: String, _ value: Int, _ labels: Labels = [:]) {
    gauge(name, help, Double(value), labels)
  }
  /// By convention the name of a counter ends in `_total`; Calico's names are older than the convention.
  public mutating func counter(_ name: String, _ help: String, _ value: Double, _ labels: Labels = [:]) {
    add(name, .counter, help, [Self.sample(name, labels, value)])
  }
  public mutating func counter(_ name: String, _ help: String, _ value: Int, _ labels: Labels = [:]) {
    counter(name, help, Double(value), labels)
  }
  public mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram, _ labels: Labels = [:]) {
    var total: UInt64 = 0
    var samples: [String] = []
    for (bound, count) in zip(histogram.bounds + [.infinity], histogram.counts) {
      total += count
      let bounded = Array(labels) + [(key: "le", value: Self.text(bound))]
      samples.append(Self.sample("\(name)_bucket", bounded, Double(total)))
    }
    samples.append(Self.sample("\(name)_sum", labels, histogram.sum))
    samples.append(Self.sample("\(name)_count", labels, Double(total)))
    add(name, .histogram, help, samples)
  }
  /// Sum and count, without quantiles: what a rate needs.
  public mutating func summary(_ name: String, _ help: String, _ summary: Summary, _ labels: Labels = [:]) {
    add(
      name, .summary, help,
      [Self.sample("\(name)_sum", labels, summary.sum), Self.sample("\(name)_count", labels, Double(summary.count))])
  }

  private mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [String]) {
    if let place = places[name] {
      families[place].samples += samples
    } else {
      places[name] = families.count
      families.append(Family(name: name, kind: kind, help: help, samples: samples))
    }
  }

  public var text: String {
    families.map { family in
      (["# HELP \(family.name) \(Self.escape(family.help, quotes: false))", "# TYPE \(family.name) \(family.kind.rawValue)"]
        + family.samples).joined(separator: "\n") + "\n"
    }.joined()
  }

  private static func sample(_ name: String, _ labels: some Sequence<(key: String, value: String)>, _ value: Double) -> String {
    let words = labels.map { "\($0.key)=\"\(escape($0.value, quotes: true))\"" }
    return (words.isEmpty ? name : "\(name){\(words.joined(separator: ","))}") + " \(text(value))"
  }

  static func text(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    // Beyond this, doubles are no longer exact integers.
    if value == value.rounded(), abs(value) < 9e15 { return "\(Int64(value))" }
    return "\(value)"
  }

  /// A backslash and a line feed would end what they stand in; a quote only ends a label's value.
  static func escape(_ text: String, quotes: Bool) -> String {
    var result: [UInt8] = []
    for octet in text.utf8 {
      switch octet {
      case UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), UInt8(ascii: "\\")]
      case UInt8(ascii: "\n"): result += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
      case UInt8(ascii: "\"") where quotes: result += [UInt8(ascii: "\\"), UInt8(ascii: "\"")]
      default: result.append(octet)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}

/// How often a value fell into which range.
public struct Histogram: Hashable, Sendable {
  /// Upper bounds, ascending; above the last comes all the rest.
  public let bounds: [Double]
  /// One more than there are bounds.
  public private(set) var counts: [UInt64]
  public private(set) var sum = 0.0
  public init(bounds: [Double]) {
    precondition(zip(bounds, bounds.dropFirst()).allSatisfy(<), "the bounds of a histogram ascend")
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }
  /// From half a millisecond to ten seconds.
  public static var latency: Histogram {
    Histogram(bounds: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10])
  }
  public mutating func observe(_ value: Double) {
    counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    sum += value
  }
}

public struct Summary: Hashable, Sendable {
  public private(set) var sum = 0.0
  public private(set) var count = 0
  public init() {}
  public mutating func observe(_ value: Double) {
    sum += value
    count += 1
  }
}
