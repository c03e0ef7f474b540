/// The functions of Go templates that exist here, and how Go prints and judges values.
import JSON

enum GoFunctions {
  static let names: Set<String> = [
    "and", "or", "not", "len", "index", "slice", "eq", "ne", "lt", "le", "gt", "ge", "print", "println", "printf", "join", "lower", "upper",
    "json",
  ]

  struct Fault: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  static func call(_ name: String, _ arguments: [JSONValue?]) throws(Fault) -> JSONValue? {
    func need(_ count: Int) throws(Fault) {
      guard arguments.count == count else { throw Fault("takes \(count) value\(count == 1 ? "" : "s"), not \(arguments.count)") }
    }
    switch name {
    case "not":
      try need(1)
      return .bool(!isTrue(arguments[0]))
    case "len":
      try need(1)
      switch arguments[0] {
      case nil, .null: return 0
      case .string(let text): return .integer(Int64(text.utf8.count))
      case .array(let elements): return .integer(Int64(elements.count))
      case .object(let object): return .integer(Int64(object.members.count))
      default: throw Fault("\(kind(of: arguments[0])) has no length")
      }
    case "index": return try index(arguments)
    case "slice": return try slice(arguments)
    case "eq":
      guard arguments.count >= 2 else { throw Fault("needs at least two values") }
      for other in arguments.dropFirst() { if try compare(arguments[0], other) == 0 { return true } }
      return false
    case "ne":
      try need(2)
      return .bool(try compare(arguments[0], arguments[1]) != 0)
    case "lt", "le", "gt", "ge":
      try need(2)
      guard let order = try compare(arguments[0], arguments[1]) else {
        throw Fault("\(kind(of: arguments[0])) and \(kind(of: arguments[1])) have no order")
      }
      switch name {
      case "lt": return .bool(order < 0)
      case "le": return .bool(order <= 0)
      case "gt": return .bool(order > 0)
      default: return .bool(order >= 0)
      }
    case "print", "println":
      var line = ""
      for (place, argument) in arguments.enumerated() {
        // As in Go: a blank between two values of which none is a text; println always puts one.
        if place > 0, name == "println" || (arguments[place - 1]?.string == nil && argument?.string == nil) { line += " " }
        line += text(argument)
      }
      return .string(name == "println" ? line + "\n" : line)
    case "printf":
      guard let format = arguments.first??.string else { throw Fault("begins with a format, such as \"%s\\n\"") }
      return .string(try printf(format, Array(arguments.dropFirst())))
    case "join":
      try need(2)
      // Both orders are in use: calicoctl's `join list sep`, and sprig's `join sep list`.
      let (list, separator) =
        arguments[0]?.string != nil && arguments[1]?.string == nil ? (arguments[1], arguments[0]) : (arguments[0], arguments[1])
      guard let separator = separator?.string else { throw Fault("needs a list and a text") }
      switch list {
      case nil, .null: return ""
      case .array(let elements): return .string(elements.map { text($0) }.joined(separator: separator))
      default: throw Fault("needs a list and a text, and this is \(kind(of: list))")
      }
    case "lower", "upper":
      try need(1)
      let word = text(arguments[0])
      return .string(name == "lower" ? word.lowercased() : word.uppercased())
    case "json":
      try need(1)
      return .string((arguments[0] ?? nil).map { $0.text() } ?? "null")
    default: preconditionFailure("the parser lets only known functions pass")
    }
  }

  private static func index(_ arguments: [JSONValue?]) throws(Fault) -> JSONValue? {
    guard var value = arguments.first else { throw Fault("needs a value") }
    for key in arguments.dropFirst() {
      switch (value, key) {
      case (nil, _), (.null, _): return nil
      case (.array(let elements), .integer(let place)):
        guard place >= 0, place < elements.count else { throw Fault("\(place) is outside of a list of \(elements.count)") }
        value = elements[Int(place)]
      case (.object(let object), .string(let name)): value = object[name]
      default: throw Fault("\(kind(of: value)) has nothing at \(text(key))")
      }
    }
    return value
  }

  private static func slice(_ arguments: [JSONValue?]) throws(Fault) -> JSONValue? {
    let bounds = arguments.dropFirst().map { $0?.integer }
    guard (1...3).contains(arguments.count), bounds.allSatisfy({ $0 != nil }) else {
      throw Fault("takes a list or text and one or two numbers")
    }
    func range(_ count: Int) throws(Fault) -> Range<Int> {
      let from = bounds.isEmpty ? 0 : Int(bounds[0]!)
      let to = bounds.count < 2 ? count : Int(bounds[1]!)
      guard 0 <= from, from <= to, to <= count else { throw Fault("\(from) to \(to) is outside of 0 to \(count)") }
      return from..<to
    }
    switch arguments[0] {
    case .array(let elements): return .array(Array(elements[try range(elements.count)]))
    case .string(let text):
      let octets = Array(text.utf8)
      return .string(String(decoding: octets[try range(octets.count)], as: UTF8.self))
    default: throw Fault("\(kind(of: arguments[0])) has no parts")
    }
  }

  /// Nil: both have values and these cannot be equal.
  private static func compare(_ a: JSONValue?, _ b: JSONValue?) throws(Fault) -> Int? {
    // What is absent is Go's zero value of whatever it is compared with.
    func zero(_ other: JSONValue?) -> JSONValue {
      switch other {
      case .string: ""
      case .bool: false
      case .integer, .unsigned, .double: 0
      default: nil
      }
    }
    let left = a == nil || a == .some(.null) ? zero(b) : a!
    let right = b == nil || b == .some(.null) ? zero(a) : b!
    switch (left, right) {
    case (.array, _), (_, .array), (.object, _), (_, .object): throw Fault("lists and objects cannot be compared")
    default: return ValueOrder.compare(left, right)
    }
  }

  static func isTrue(_ value: JSONValue?) -> Bool {
    switch value {
    case nil, .null: false
    case .bool(let value): value
    case .integer(let number): number != 0
    case .unsigned(let number): number != 0
    case .double(let number): number != 0
    case .string(let text): !text.isEmpty
    case .array(let elements): !elements.isEmpty
    case .object(let object): !object.isEmpty
    }
  }

  static func kind(of value: JSONValue?) -> String {
    switch value {
    case nil, .null: "nothing"
    case .bool: "a truth value"
    case .integer, .unsigned, .double: "a number"
    case .string: "a text"
    case .array: "a list"
    case .object: "an object"
    }
  }

  /// As `%v` prints: `[a b]`, `map[a:1 b:2]`.
  static func text(_ value: JSONValue?) -> String {
    switch value {
    case nil, .null: ""
    case .bool(let value): value ? "true" : "false"
    case .integer(let number): "\(number)"
    case .unsigned(let number): "\(number)"
    case .double(let number): number == number.rounded() && abs(number) < 1e15 ? "\(Int64(number))" : "\(number)"
    case .string(let text): text
    case .array(let elements): "[" + elements.map { text($0) }.joined(separator: " ") + "]"
    case .object(let object):
      "map[" + object.members.sorted { $0.name < $1.name }.map { "\($0.name):\(text($0.value))" }.joined(separator: " ") + "]"
    }
  }

  // MARK: printf

  /// `%s %v %d %q %t %x %f %g %%`, with `-`, `0`, a width and a precision.
  private static func printf(_ format: String, _ arguments: [JSONValue?]) throws(Fault) -> String {
    var result = ""
    var rest = format[...]
    var used = 0
    while let percent = rest.firstIndex(of: "%") {
      result += rest[..<percent]
      rest = rest[rest.index(after: percent)...]
      let flags = rest.prefix { $0 == "-" || $0 == "0" || $0 == "+" || $0 == "#" || $0 == " " }
      rest = rest.dropFirst(flags.count)
      let width = rest.prefix { $0.isASCII && $0.isNumber }
      rest = rest.dropFirst(width.count)
      var precision: Int?
      if rest.first == "." {
        let digits = rest.dropFirst().prefix { $0.isASCII && $0.isNumber }
        precision = digits.isEmpty ? 0 : Int(digits)
        rest = rest.dropFirst(1 + digits.count)
      }
      guard let verb = rest.popFirst() else { throw Fault("the format ends with a lone %; %% is a percent sign") }
      if verb == "%" {
        result += "%"
        continue
      }
      guard used < arguments.count else { throw Fault("%\(verb) has no value: \(arguments.count) given") }
      let value = arguments[used]
      used += 1
      guard let count = width.isEmpty ? 0 : Int(width), count <= 1000, precision ?? 0 <= 100 else { throw Fault("a width above 1000") }
      let word = try formatted(verb, value, precision, plus: flags.contains("+"))
      let padding = String(repeating: flags.contains("0") && !flags.contains("-") ? "0" : " ", count: max(0, count - word.count))
      result += flags.contains("-") ? word + padding : padding + word
    }
    if used < arguments.count { throw Fault("\(arguments.count) values for \(used) place\(used == 1 ? "" : "s") in the format") }
    return result + rest
  }

  private static func formatted(_ verb: Character, _ value: JSONValue?, _ precision: Int?, plus: Bool) throws(Fault) -> String {
    switch verb {
    case "v", "s":
      let word = text(value)
      return verb == "s" && precision != nil ? String(word.prefix(precision!)) : word
    case "q": return JSONValue.string(text(value)).text()
    case "t": return isTrue(value) ? "true" : "false"
    case "d", "x":
      let number: Int64
      switch value {
      case nil, .null: number = 0
      case .integer(let given): number = given
      case .double(let given) where given == given.rounded() && abs(given) < 9e15: number = Int64(given)
      default: throw Fault("%\(verb) needs a whole number, and this is \(kind(of: value))")
      }
      return (plus && number >= 0 ? "+" : "") + (verb == "x" ? String(number, radix: 16) : "\(number)")
    case "f", "g":
      guard let number = value == nil || value == .some(.null) ? 0 : value!.double else {
        throw Fault("%\(verb) needs a number, and this is \(kind(of: value))")
      }
      return verb == "g" ? text(.double(number)) : fixed(number, precision ?? 6)
    default: throw Fault("%\(verb) is not known; %s, %v, %d, %q, %t, %x, %f and %g are")
    }
  }

  private static func fixed(_ number: Double, _ precision: Int) -> String {
    guard abs(number) < 1e15 else { return "\(number)" }
    let places = min(precision, 9)
    var scale: Int64 = 1
    for _ in 0..<places { scale *= 10 }
    let whole = Int64(abs(number))
    var fraction = Int64(((abs(number) - Double(whole)) * Double(scale)).rounded())
    var units = whole
    if fraction >= scale { (units, fraction) = (units + 1, fraction - scale) }
    let digits = "\(fraction)"
    let sign = number < 0 && (units > 0 || fraction > 0) ? "-" : ""
    if places == 0 { return "\(sign)\(units)" }
    return
      "\(sign)\(units).\(String(repeating: "0", count: places - digits.count))\(digits)\(String(repeating: "0", count: precision - places))"
  }
}
