/// Reading a Go template: text, and between {{ and }} actions made of pipelines.
import JSON

struct GoTemplateParser {
  private var cursor: TemplateCursor
  /// Blocks may stand in each other this deep, parentheses too; reading and running recurse.
  private static let depthMax = 64

  init(_ text: String) { cursor = TemplateCursor(text) }

  mutating func whole() throws(TemplateError) -> [GoTemplate.Node] {
    let (nodes, _) = try list(opened: nil, depth: 0, inRange: false)
    return nodes
  }

  private enum Ending { case end, plainElse, elseIf(JSONPosition), elseWith(JSONPosition), text }

  /// Nodes up to the action that ends the block, or the end of the text for the whole template.
  private mutating func list(
    opened: (word: String, position: JSONPosition)?, depth: Int, inRange: Bool
  ) throws(TemplateError) -> ([GoTemplate.Node], Ending) {
    if depth > Self.depthMax { throw cursor.error("more than \(Self.depthMax) blocks stand in each other") }
    var nodes: [GoTemplate.Node] = []
    var trimsNext = false
    while !cursor.isAtEnd {
      var text = String.UnicodeScalarView()
      while !cursor.isAtEnd, !cursor.starts(with: "{{") { text.append(cursor.advance()) }
      let opensTrimming = cursor.starts(with: "{{-") && (cursor.peek(3)?.isBlank ?? false)
      if trimsNext { text = .init(text.drop(while: \.isBlank)) }
      if opensTrimming { while let last = text.last, last.isBlank { text.removeLast() } }
      trimsNext = false
      if !text.isEmpty { nodes.append(.text(String(text))) }
      if cursor.isAtEnd { break }
      let position = cursor.position
      cursor.advance(opensTrimming ? 3 : 2)
      cursor.skipBlanks()
      if cursor.take("/*") {
        while !cursor.isAtEnd, !cursor.starts(with: "*/") { cursor.advance() }
        guard cursor.take("*/") else { throw TemplateError("the comment that begins here has no closing */", at: position) }
        trimsNext = try close(position)
        continue
      }
      let word = keyword()
      switch word {
      case "end":
        cursor.advance(3)
        pendingTrim = try close(position)
        guard opened != nil else { throw TemplateError("{{end}} without a block before it", at: position) }
        return (nodes, .end)
      case "else":
        cursor.advance(4)
        guard let opened else { throw TemplateError("{{else}} without {{if}}, {{range}} or {{with}} before it", at: position) }
        cursor.skipBlanks()
        if let next = keyword(), next == "if" || next == "with" {
          guard opened.word != "range" else { throw TemplateError("{{else \(next)}} does not belong to {{range}}", at: position) }
          cursor.advance(next.utf8.count)
          return (nodes, next == "if" ? .elseIf(position) : .elseWith(position))
        }
        pendingTrim = try close(position)
        return (nodes, .plainElse)
      case "if", "with", "range":
        let word = word!
        cursor.advance(word.utf8.count)
        nodes.append(try block(word, position, depth, inRange: inRange))
        trimsNext = pendingTrim
        continue
      case "break", "continue":
        cursor.advance(word!.utf8.count)
        guard inRange else { throw TemplateError("{{\(word!)}} outside of {{range}}", at: position) }
        nodes.append(.leave(isContinue: word == "continue"))
      case "define", "template", "block":
        throw TemplateError("{{\(word!)}} is not supported; write the text in place, or use -o jsonpath or custom-columns", at: position)
      default:
        let pipeline = try pipeline(mayDeclare: 1)
        nodes.append(pipeline.variables.isEmpty ? .print(pipeline) : .assign(pipeline))
      }
      trimsNext = try close(position)
    }
    if let opened { throw TemplateError("the {{\(opened.word)}} that begins here has no {{end}}", at: opened.position) }
    return (nodes, .text)
  }
  /// Whether the action that was read last ended in `-}}`.
  private var pendingTrim = false

  private mutating func block(
    _ word: String, _ position: JSONPosition, _ depth: Int, inRange: Bool
  ) throws(TemplateError) -> GoTemplate.Node {
    let condition = try pipeline(mayDeclare: word == "range" ? 2 : 1)
    let trims = try close(position)
    var (then, ending) = try inner(trims, (word, position), depth, inRange: inRange || word == "range")
    var otherwise: [GoTemplate.Node] = []
    switch ending {
    case .end, .text: break
    case .plainElse: (otherwise, ending) = try inner(pendingTrim, (word, position), depth, inRange: inRange)
    case .elseIf(let place): otherwise = [try block("if", place, depth + 1, inRange: inRange)]
    case .elseWith(let place): otherwise = [try block("with", place, depth + 1, inRange: inRange)]
    }
    switch ending {
    case .plainElse, .text: throw TemplateError("a second {{else}} of the {{\(word)}} that begins here", at: position)
    default: break
    }
    let branch = GoTemplate.Branch(isWith: word == "with", condition: condition, then: then, otherwise: otherwise)
    return word == "range" ? .range(branch) : .branch(branch)
  }

  private mutating func inner(
    _ trims: Bool, _ opened: (word: String, position: JSONPosition), _ depth: Int, inRange: Bool
  ) throws(TemplateError) -> ([GoTemplate.Node], Ending) {
    if trims { cursor.skipBlanks() }
    return try list(opened: opened, depth: depth + 1, inRange: inRange)
  }

  /// The keyword that comes next, if it stands alone.
  private func keyword() -> String? {
    ["end", "else", "if", "range", "with", "break", "continue", "define", "template", "block"].first { word in
      cursor.starts(with: word) && !(cursor.peek(word.utf8.count)?.isWord ?? false)
    }
  }

  /// Steps over }}; says whether the blanks behind it go.
  private mutating func close(_ opening: JSONPosition) throws(TemplateError) -> Bool {
    let hadBlank = cursor.next?.isBlank ?? false
    cursor.skipBlanks()
    if hadBlank, cursor.take("-}}") { return true }
    if cursor.take("}}") { return false }
    if let scalar = cursor.next { throw cursor.error("\"\(scalar)\" is not expected here; }} ends the action") }
    throw TemplateError("the action that begins here has no closing }}", at: opening)
  }

  // MARK: Pipelines

  private mutating func pipeline(mayDeclare: Int, depth: Int = 0) throws(TemplateError) -> GoTemplate.Pipeline {
    if depth > Self.depthMax { throw cursor.error("more than \(Self.depthMax) parentheses stand in each other") }
    cursor.skipBlanks()
    var pipeline = GoTemplate.Pipeline(position: cursor.position)
    let before = cursor
    var names: [String] = []
    while names.count < mayDeclare, cursor.next == "$" {
      names.append(
        "$"
          + {
            cursor.advance(); return cursor.take(while: \.isWord)
          }())
      cursor.skipBlanks()
      guard cursor.take(",") else { break }
      cursor.skipBlanks()
    }
    if !names.isEmpty, cursor.take(":=") {
      pipeline.isDeclaration = true
      pipeline.variables = names
    } else if !names.isEmpty, cursor.next == "=", cursor.peek(1) != "=" {
      cursor.advance()
      pipeline.variables = names
    } else {
      cursor = before
    }
    repeat { pipeline.commands.append(try command(depth)) } while cursor.take("|")
    return pipeline
  }

  private mutating func command(_ depth: Int) throws(TemplateError) -> GoTemplate.Command {
    cursor.skipBlanks()
    let position = cursor.position
    var operands: [GoTemplate.Operand] = []
    while let scalar = cursor.next {
      if scalar == "|" || scalar == ")" || cursor.starts(with: "}}") || (scalar == "-" && cursor.starts(with: "-}}")) { break }
      operands.append(try operand(depth))
      let isSeparated = cursor.next?.isBlank ?? true
      // The blank before -}} belongs to it.
      let beforeBlanks = cursor
      cursor.skipBlanks()
      if cursor.starts(with: "-}}") {
        cursor = beforeBlanks
        break
      }
      if !isSeparated, let scalar = cursor.next, scalar != "|", scalar != ")", !cursor.starts(with: "}}") {
        throw cursor.error("\"\(scalar)\" is not expected here; blanks separate the words of an action")
      }
    }
    if operands.isEmpty { throw TemplateError("a value is missing", at: position) }
    return GoTemplate.Command(operands: operands, position: position)
  }

  private mutating func operand(_ depth: Int) throws(TemplateError) -> GoTemplate.Operand {
    let position = cursor.position
    var operand: GoTemplate.Operand
    switch cursor.next! {
    case "(":
      cursor.advance()
      let inner = try pipeline(mayDeclare: 0, depth: depth + 1)
      cursor.skipBlanks()
      guard cursor.take(")") else { throw TemplateError("the parenthesis that opens here has no closing )", at: position) }
      operand = .group(inner)
    case "$":
      cursor.advance()
      operand = .variable("$" + cursor.take(while: \.isWord), at: position)
    case ".":
      if cursor.peek(1)?.isWord != true {
        cursor.advance()
        return .dot
      }
      operand = .dot
    case "\"": return .literal(.string(try cursor.quoted()))
    case "`":
      cursor.advance()
      let text = cursor.take { $0 != "`" }
      guard cursor.take("`") else { throw TemplateError("the text that begins here has no closing `", at: position) }
      return .literal(.string(text))
    case "-", "+", "0"..."9":
      let text = cursor.take { $0.isWord || $0 == "." || $0 == "-" || $0 == "+" }
      if let number = Int64(text) { return .literal(.integer(number)) }
      guard let number = Double(text), number.isFinite else { throw TemplateError("\"\(text)\" is no number", at: position) }
      return .literal(.double(number))
    case let scalar where scalar.isWord:
      let name = cursor.take(while: \.isWord)
      switch name {
      case "true": return .literal(true)
      case "false": return .literal(false)
      case "nil": return .literal(nil)
      default:
        guard GoFunctions.names.contains(name) else {
          throw TemplateError(
            "there is no function \"\(name)\"; there are \(GoFunctions.names.sorted().joined(separator: ", "))", at: position)
        }
        return .function(name, at: position)
      }
    case let scalar: throw TemplateError("\"\(scalar)\" is not expected here", at: position)
    }
    var names: [String] = []
    while cursor.next == ".", cursor.peek(1)?.isWord == true {
      cursor.advance()
      names.append(cursor.take(while: \.isWord))
    }
    if !names.isEmpty { operand = .fields(operand, names, at: position) }
    return operand
  }
}
