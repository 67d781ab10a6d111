"""The templates of tests/data/jinja_cases.json. All see the variables below."""

VARIABLES = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "  Hi \u72b6\u6001 \U0001F642\n"},
        {"role": "assistant", "content": "<think>\na\n</think>\n\nok", "n": 1},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image"}]},
    ],
    "s": "Hello, World",
    "u": "\u00e9t\u00e9 \u72b6\u6001 \U0001F642 stra\u00dfe",
    "blank": " \t\n a b  c \u3000\n",
    "q": "it's \"q\" \\ \n\t\u0001\u200b\u00e9<&>",
    "n": 7,
    "neg": -7,
    "f": 2.5,
    "t": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "ls": ["b", "A", "c", "a"],
    "empty": [],
    "d": {"b": 1, "a": [1, 2.0, None, True, "x\u00e9"], "C": {"k": "v"}},
    "users": [
        {"name": "Bob", "age": 30, "tags": ["x", "y"], "address": {"city": "Oslo"}},
        {"name": "alice", "age": 25, "tags": [], "address": {"city": "Rome"}},
        {"name": "Carol", "age": 30, "tags": ["z"], "address": {"city": "bern"}},
    ],
    "deep": {"items": [1], "get": "hidden", "name": "n", "x.y": 5},
    "bos_token": "<s>",
}

# Expressions, each rendered as "{{ ... }}".
EXPRESSIONS = r"""
1 + 2 * 3
(1 + 2) * 3
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
7.5 // 2
-7.5 // 2
-7.5 % 2
7.5 % -2
7 / 2
6 / 3
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
1 / 0
1 // 0
1 % 0
1.0 / 0
0 ** -1
1_000 + 1
0x1F + 0b11 + 0o17
1.5e3
1e3
2.5e-3
1e16
1e15
123456789.123456789
0.1 + 0.2
1.0
-0.0
1e-5
100000000000000000000.0
n + f
n * 1.0
true + true
-true
+n
- n
-f
not n
not not n
'a' 'b'
'a' ~ 1 ~ none ~ 2.5 ~ true ~ [1] ~ undefined_name
'a' + 'b'
'a' + 1
1 + 'a'
'ab' * 3
3 * 'ab'
'ab' * -1
[1, 2] * 2
[1] + [2]
(1,) + (2, 3)
[1] + (2,)
[1] - [1]
none + 1
undefined_name + 1
1 + undefined_name
1 == 1.0
1 == true
'1' == 1
none == false
undefined_name == none
undefined_name == other_name
[1, 2] == [1, 2]
[1, 2] == (1, 2)
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
1 < 2 < 3
1 < 3 < 2
1 < 2 == true
3 > 2 >= 2
'a' < 'b'
'a' < 'B'
[1, 2] < [1, 3]
(1, 2) < (1, 2, 3)
1 < 'a'
none < 1
undefined_name < 1
1 != 2
1 in l
4 in l
4 not in l
not 4 in l
'ell' in s
'' in s
1 in s
'b' in d
'zz' in d
'a' in none
'a' in undefined_name
'x' in 'xyz' and 'q' not in 'xyz'
n and f
0 or 'x'
'' or none
none and 1
n or undefined_name.foo
no and undefined_name.foo
1 if n else 2
1 if no else 2
1 if no
1 if no else 2 if no else 3
'a' if n == 7 and f > 2 else 'b'
undefined_name
undefined_name.foo
undefined_name['foo']
undefined_name()
undefined_name[1:]
d.nothing
d.nothing.more
d['nothing']
none.foo
nil.foo
nil['foo']
nil[0]
n.foo
none
true
True
[True, false, None, none]
f
l
d
users[0]
(1, 2)
(1,)
()
[]
{}
{'a': 1, 2: 'b', none: 3, true: 4, 2.5: 5}
{1: 'a', 1.0: 'b', true: 'c'}
{[1]: 2}
{(1, 2): 3}
{'a': 1}['a']
[q]
[u]
['\x7f', '\xad', '\u2028', '\U0001F600', "it's", 'say "x"', 'a\\b']
s[0]
s[-1]
s[100]
s[1:3]
s[:-1]
s[-3:]
s[::-1]
s[::2]
s[5:1]
s[5:1:-1]
s[10:100]
s[-100:2]
s[100:]
s[1:2:0]
s[none:2]
s['a']
u[2:6]
u[4]
u[::-1]
u[::3]
u|length
u[-7:]
l[0]
l[-1]
l[3]
l[1:]
l[::-1]
l[-2:]
l[:1]
l[2:0:-1]
(1, 2, 3)[1:]
l['a']
l.0
l[true]
d.a[4]
d['a'][0]
d.a.1
d[none]
d[l]
d[1:2]
nil[1:2]
users[1].address.city
users[1]['address']['city']
deep['items']
deep.items is callable
deep.items()|length
deep.get('name')
deep['get']
deep.name
deep['x.y']
d.keys()|list
d.values()|list
d.items()|list
d.get('b')
d.get('zz')
d.get('zz', 5)
d.foo()
d['keys']()|list
s.upper()
s.lower()
u.upper()
u.title()
u.capitalize()
'hELLO wORLD'.title()
"it's a dog-house".title()
'hELLO wORLD'.capitalize()
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.split(',', maxsplit=2)
'a,b,,c'.rsplit(',', 1)
'a--b--c'.split('--')
' a  b c '.split()
' a  b c '.split(none, 1)
' a  b c '.rsplit(none, 1)
' a  b c '.rsplit()
''.split()
''.split(',')
'abc'.split('')
'abc'.split('x')
'aaa'.split('aa')
'aaa'.rsplit('aa')
blank.split()
blank.strip()
blank.lstrip()
blank.rstrip()
'xxabcxx'.strip('x')
'xxabcxx'.lstrip('x')
'xxabcxx'.rstrip('x')
'abcba'.strip('ab')
u.strip('\u00e9')
'abc'.strip('')
'abc'.startswith('ab')
'abc'.startswith(('x', 'ab'))
'abc'.endswith('bc')
'abc'.endswith('x')
'abc'.startswith('')
'abc'.startswith(1)
'a.b.c'.replace('.', '-')
'a.b.c'.replace('.', '-', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
u.replace('', '.')
'abc'.replace('b', '')
'abc'.replace('x', 'y')
'aaaa'.replace('aa', 'b')
'abcabc'.find('c')
'abcabc'.rfind('c')
'abcabc'.find('x')
u.find('\u6001')
'abcabc'.index('c')
'abcabc'.index('x')
'abcabc'.count('bc')
'aaaa'.count('aa')
'abc'.count('')
'a\nb\r\nc\n'.splitlines()
'a\nb\r\nc\n'.splitlines(true)
'a\n\nb'.splitlines()
''.splitlines()
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
'prefix-x'.removeprefix('prefix-')
'x-suffix'.removesuffix('-suffix')
'abc'.removeprefix('x')
'123'.isdigit()
'12a'.isdigit()
''.isdigit()
'\u00b2'.isdigit()
'abc'.isalpha()
u.isalpha()
'\u00e9'.isalpha()
'a1'.isalnum()
' \t\n'.isspace()
'ABC1'.isupper()
'abc1'.islower()
'1'.islower()
'-'.join(['a', 'b'])
'-'.join('abc')
'-'.join([1])
'-'.join(d)
'5'.zfill(3)
'-5'.zfill(4)
'x'.nomethod()
'%s and %s' % ('a', 1)
'%s' % 'a'
'%s' % none
'%s' % [1, 2]
'%s' % d
'%d' % 5.7
'%5d|%-5d|%05d' % (1, 2, 3)
'%+d % d' % (5, 5)
'%.2f' % 3.14159
'%8.3f|%-8.1f|%08.2f' % (1.5, 2.5, -3.25)
'%e' % 12345.678
'%g %g %g' % (0.0001, 100000.0, 1e10)
'%x %X %o' % (255, 255, 8)
'%#x' % 255
'%5s|%-5s|%.2s' % ('a', 'b', 'xyz')
'%r' % 'a'
'100%%' % ()
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s' % ()
'%s %s' % 'a'
'%s' % ('a', 'b')
'%d' % 'a'
'%c' % 'x'
'%*d' % (5, 3)
'{} {}'.format('a', 1)
'{0} {1} {0}'.format('a', 'b')
'{name}!'.format(name='x')
'{{}} {}'.format(1)
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:*^7}'.format('mid')
'{:05d} {:+d} {:,}'.format(42, 7, 1234567)
'{:.3f} {:.1%} {:8.2f}|'.format(3.14159, 0.256, 2.5)
'{:x} {:X} {:b} {:o} {:#x}'.format(255, 255, 5, 8, 255)
'{!r} {!s}'.format('a', 'b')
'{0.name} {0[name]}'.format(deep)
'{a[0]}'.format(a=[9])
'{} {}'.format(2.5, none)
'{:10}|{:10}|'.format(5, 2.5)
'{}'.format()
'{'.format()
'{:d}'.format('a')
'{:e}'.format(12345.678)
'a' is string
n is string
undefined_name is string
n is number
t is number
f is number
n is integer
t is integer
f is float
t is boolean
n is boolean
t is true
1 is true
no is false
none is none
nil is none
undefined_name is none
undefined_name is defined
undefined_name is undefined
undefined_name is not defined
d.zz is defined
d.b is defined
not d.zz is defined
d is mapping
l is mapping
s is iterable
l is iterable
n is iterable
undefined_name is iterable
none is iterable
s is sequence
d is sequence
n is sequence
undefined_name is sequence
l|map('string') is sequence
l|map('string') is iterable
range is callable
n is callable
4 is even
5 is odd
9 is divisibleby 3
9 is divisibleby(2)
1 is eq 1
1 is ne 1
1 is lt 2
3 is ge(3)
3 is equalto 3
3 is in [1, 3]
3 is not in [1, 3]
'a' is in 'abc'
none is sameas none
n is sameas true
'abc' is lower
'ABC' is upper
'trim' is filter
'even' is test
'n o' is filter
s is string and n is number or nosuch
s is not string
s|upper
s|lower
u|upper
'foo bar-baz (qux) [a] {b} <c>'|title
"it's o'neil"|title
'hELLO'|capitalize
n|upper
none|upper
blank|trim
'xxaxx'|trim('x')
n|trim
undefined_name|trim
s|replace('l', 'L')
s|replace('l', 'L', 2)
s|replace('l', 'L', count=1)
n|replace('7', '8')
s|length
l|length
d|count
n|length
undefined_name|length
none|length
l|map('string')|length
l|first
l|last
empty|first
empty|last
s|first
s|last
d|first
none|first
l|list
s|list
d|list
l|sort
l|sort(reverse=true)
ls|sort
ls|sort(case_sensitive=true)
ls|sort(true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
users|sort(attribute='name', case_sensitive=true)|map(attribute='name')|join(' ')
users|sort(attribute='address.city')|map(attribute='name')|join(' ')
[1, 'a']|sort
[[2, 'b'], [1, 'z'], [2, 'a']]|sort
d|dictsort
d|dictsort(true)
{'a': 3, 'b': 1}|dictsort(by='value')
{'a': 3, 'b': 1}|dictsort(false, 'value', true)
l|dictsort
['a', 'A', 'b']|unique|list
['a', 'A', 'b']|unique(true)|list
users|unique(attribute='age')|map(attribute='name')|list
[1, 1.0, true, 2]|unique|list
l|min
l|max
empty|max
ls|min
ls|max(case_sensitive=true)
users|max(attribute='age')
users|min(attribute='name')
l|sum
l|sum(start=10)
users|sum(attribute='age')
[1, 2.5]|sum
['a']|sum
empty|sum
l|join
l|join(', ')
users|join(', ', attribute='name')
s|join('-')
[1, none, 'a', undefined_name]|join('|')
undefined_name|join(',')
n|join(',')
l|reverse|list
s|reverse
u|reverse
l|map('string')|list
users|map(attribute='name')|list
users|map(attribute='zz')|list
users|map(attribute='zz', default='x')|list
users|map(attribute='address.city')|list
users|map(attribute='zz.yy')|list
users|map(attribute='tags.0')|list
users|map(attribute='tags')|map('first')|list
users|map('length')|list
['a', 'b']|map('upper')|join
['a', 'b']|map('replace', 'a', 'x')|list
l|map('nofilter')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|selectattr('age', '==', 30)|list|length
users|selectattr('age', 'lt', 30)|map(attribute='name')|list
users|selectattr('tags')|map(attribute='name')|list
users|rejectattr('tags')|map(attribute='name')|list
users|selectattr('zz', 'defined')|list
users|rejectattr('zz', 'defined')|list|length
users|selectattr('name', 'in', ['Bob'])|map(attribute='age')|first
users|selectattr('age', 'nosuchtest')|list
l|select('odd')|list
l|select('>', 1)|list
l|reject('odd')|list
[0, 1, '', none, 'a']|select|list
[0, 1, '', none, 'a']|reject|list
l|select('divisibleby', 3)|list
'yes' if empty|select|list else 'no'
'yes' if empty|select else 'no'
d|items|list
undefined_name|items|list
l|items|list
undefined_name|default('x')
none|default('x')
none|default('x', true)
''|default('x', boolean=true)
undefined_name|default
d.zz|d('y')
undefined_name.a|default('x')
'5'|int
'5.7'|int
' 12 '|int
'1_000'|int
'-3'|int
'+3'|int
'abc'|int
'abc'|int(default=9)
'ff'|int(base=16)
'0xff'|int(0, 16)
3.9|int
-3.9|int
none|int
l|int
true|int
undefined_name|int
'1e3'|int
'2.5'|float
'abc'|float
'abc'|float(1.5)
'1e400'|float
'inf'|float
' 1_0.5 '|float
3|float
none|float
-5|abs
-5.5|abs
'a'|abs
2.5|round
3.5|round
-2.5|round
2.675|round(2)
5|round
1234.5678|round(2)
1234.5678|round(-2)
1250|round(-2)
2.1|round(method='ceil')
2.9|round(0, 'floor')
2.123|round(2, 'ceil')
'a'|round
n|string ~ 'x'
l|string
n|string|length
d|string
'%s-%s'|format('a', 'b')
'%(x)s'|format(x=1)
'<a href="x">&\'</a>'|escape
'<b>'|e
s|safe
'a\nb\n\nc'|indent
'a\nb\n\nc'|indent(2)
'a\nb\n\nc'|indent(2, true)
'a\nb\n\nc'|indent(2, first=true, blank=true)
'a\nb\n'|indent(2)
'a\nb'|indent('> ')
'a'|indent(2)
n|tojson
f|tojson
nil|tojson
t|tojson
q|tojson
u|tojson
u|tojson(ensure_ascii=true)
d|tojson
d|tojson(indent=2)
d|tojson(indent=0)
d|tojson(indent='--')
d|tojson(separators=(',', ':'))
d|tojson(sort_keys=true)
d|tojson(indent=2, separators=(', ', ' = '))
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}, [1, [2]]]|tojson(indent=4)
(1, 2)|tojson
{1: 2, true: 3, none: 4, 2.5: 5}|tojson
{(1, 2): 3}|tojson
undefined_name|tojson
l|map('string')|tojson
range|tojson
messages|tojson
'<script>&\''|tojson
1e16|tojson
0.00001|tojson
range(3)|list
range(1, 4)|list
range(5, 0, -2)|list
range(0)|list
range(1000000)|length
range(1, 2, 0)
range('a')
dict(a=1, b='x')
dict({'z': 1}, a=2)
namespace(a=1).a
namespace({'z': 3}).z
namespace(a=1)['a']
namespace(a=1).zz
raise_exception('no way')
strftime_now('%Y-%m-%d')
strftime_now('%d %B %Y, %H:%M:%S %A %j %%')
strftime_now('%-d %b %y %I %p')
messages[0].role
messages[-1]['content'][0].text
messages[1].content.strip()
messages[2].content.split('</think>')[-1].lstrip('\n')
messages|length
messages[1:]|length
messages|map(attribute='role')|join(',')
messages|selectattr('role', 'equalto', 'user')|list|length
messages[0].content is string
messages[3].content is not string and messages[3].content is iterable
bos_token + 'x'
[1, 2, 3,]
{'a': 1,}
(1, 2,)
[[1, 2], [3]][0][1]
{'a': {'b': [1, {'c': 'deep'}]}}.a.b[1].c
'a' if true else 'b' ~ 'c'
('a' if true else 'b') ~ 'c'
'a' ~ 'b' == 'ab'
1 + 1 ~ 2 + 2
2 * 3 ~ 4
not 1 == 2
1 == 1 and not 2 == 3
-1|abs
-1.5|abs|string
(-1)|abs
'a'|upper ~ 'b'
'a,b'.split(',')|map('upper')|list
n|string|list|first
1 is defined and 2 is defined
l is defined and l|length > 0
[1, 2] is sequence and 'a' is not mapping
'\x41\u00e9\n\t\\ \' \" \q \101'
"a\
b"
'multi
line'
1, 2
'a' 'b' ~ 'c'
n()
'a'()
l[
l]
1 +
{{ 1
(1
[1)
'abc
1 2
a b
n is
n is nosuchtest
n|nosuchfilter
n|
n.
n..a
n is string is string
foo(a=1, 2)
foo(a=1, a=2)
1 = 2
@
$x
1.2.3
0123
0x
""".strip("\n")


def _expressions():
    """Lines; a line goes on while its quotes are open (multi-line strings)."""
    lines = EXPRESSIONS.split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        if line in ('"a\\', "'multi"):
            i += 1
            line += "\n" + lines[i]
        yield "{{ " + line + " }}"
        i += 1


STATEMENTS = [
    # Whitespace control.
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}  \n  b\n  {% endif %}\n  c",
    "a\n  {%- if true %}\n  b\n  {%- endif %}\n  c",
    "a\n  {% if true -%}\n  b\n  {% endif -%}\n  c",
    "a\n  {%+ if true %}\n  b\n  {%+ endif +%}\n  c",
    "a  {% if true %}b{% endif %}  c",
    "a\n  {{ n }}\n  b",
    "a\n  {{- n -}}\n  b",
    "a\n\n\n{#- comment -#}\n\n\nb",
    "a\n  {# comment #}\nb",
    "a {# one\ntwo {{ n }} {% if %} #} b",
    "x {#+ c +#}\ny",
    "{##}a{#-#}b",
    "a\r\nb\rc\n\n",
    "\n\na\n\n",
    "a\n",
    "a\n\n",
    "\n",
    "",
    "{{ n }}\n{{ n }}\n",
    "{{ '{{' }} {{ '%}' }} {{ '}}' }}",
    "{ { % } } # {",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': {}} }}",
    "{{-n-}}|{{+n}}|{{ -n}}",
    "  {% set x = 1 %}  {{ x }}",
    "a\n\t \f{% set x = 1 %}\nb",
    "\u00a0{% set x = 1 %}b",
    "{% raw %}{{ n }} {% if %} {# x #}{% endraw %}",
    "a\n  {% raw %}\n {{ x }}\n  {% endraw %}\nb",
    "a  {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "{% raw %}{% raw %}{% endraw %}",
    "{% raw %}no end",
    "{# no end",
    "{% if true",
    "{{ n",
    "{%if n%}x{%endif%}",
    "{%-if n-%} x {%-endif-%} y",
    # If.
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if no %}a{% endif %}|",
    "{% if undefined_name %}a{% else %}b{% endif %}",
    "{% if [] %}a{% endif %}{% if {} %}b{% endif %}{% if '' %}c{% endif %}{% if 0.0 %}d{% endif %}{% if ' ' %}e{% endif %}",
    "{% if n %}{% if no %}x{% else %}y{% endif %}{% endif %}",
    "{% if n %}no end",
    "{% endif %}",
    "{% else %}",
    "{% if %}x{% endif %}",
    "{% if n %}{% else %}{% elif n %}{% endif %}",
    "{% if n %}{% endfor %}",
    # Set.
    "{% set x = 5 %}{{ x }}",
    "{% set x = 1, 2 %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1, 2, 3] %}",
    "{% set a, b = 5 %}",
    "{% set (a, b) = (1, 2) %}{{ a + b }}",
    "{% set x %}text {{ n }}{% endset %}[{{ x }}]",
    "{% set x | upper %}text{% endset %}{{ x }}",
    "{% set x | trim | replace('a', 'b') %} aa {% endset %}{{ x }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if true %}{% set fresh = 2 %}{% endif %}{{ fresh }}",
    "{% set n = n + 1 %}{{ n }}",
    "{% set x = x if x is defined else 'none' %}{{ x }}",
    "{% set none = 1 %}",
    "{% set true = 1 %}",
    "{% set 1 = 1 %}",
    "{% set x.y = 1 %}",
    "{% set d.y = 1 %}",
    "{% set x = %}",
    "{% set x %}no end",
    "{% set x = 1 %}{% set y %}{% set x = 2 %}{{ x }}{% endset %}{{ x }}{{ y }}",
    # Namespace.
    "{% set ns = namespace(a=1, b='x') %}{% set ns.a = ns.a + 1 %}{% set ns.c = 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{% set ns = namespace(found=false) %}{% for i in l %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% set ns = namespace() %}{{ ns.x is defined }}",
    "{% set ns = namespace(t='') %}{% for c in 'abc' %}{% set ns.t = c ~ ns.t %}{% endfor %}{{ ns.t }}",
    "{% set ns = namespace(x=1) %}{% set ns.x, y = 5, 6 %}{{ ns.x }}{{ y }}",
    "{% set ns = namespace(t) %}",
    # For.
    "{% for i in l %}{{ i }},{% endfor %}",
    "{% for i in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for i in l %}{{ loop.nosuch is defined }}{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in [1] %}x{% else %}empty{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}:{{ loop.index }}/{{ loop.length }} {% endfor %}",
    "{% for i in l if i > 9 %}x{% else %}none{% endfor %}",
    "{% for i in l if loop.first %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ k }}={{ v }};{{ loop.length }}{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [[1, 2], [3]] %}{{ a }}{% endfor %}",
    "{% for x in n %}{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% for x in undefined_name %}x{% endfor %}|",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in range(3) %}{% set outer = loop %}{% for j in range(2) %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% set x = 0 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% for n in l %}{{ n }}{% endfor %}{{ n }}",
    "{% for i in l %}{% endfor %}{{ i is defined }}{{ loop is defined }}",
    "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% break %}{% else %}else{% endfor %}",
    "{% for i in l %}{% continue %}{% else %}else{% endfor %}",
    "{% for i in l %}{% if loop.last %}{% break %}{% endif %}{% else %}else{% endfor %}",
    "{% for i in range(2) %}{% for j in range(5) %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% break %}",
    "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l|sort %}{{ x }}{% endfor %}",
    "{% for x in l|reverse %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in l if x is odd %}{{ loop.last }}{% endfor %}",
    "{% for m in messages %}{{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages[1:] if m.role != 'assistant' %}{{ loop.index0 }}{{ m['role'] }}{% endfor %}",
    "{% for x in users|selectattr('tags') %}{{ x.name }}{% for tag in x.tags %}-{{ tag }}{% endfor %} {% endfor %}",
    "{% for x in l %}no end",
    "{% for x l %}{% endfor %}",
    "{% for x in %}{% endfor %}",
    "{% for 1 in l %}{% endfor %}",
    "{% set g = l|map('string') %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}again{% endfor %}",
    "{% set g = l|map('string') %}{{ g|first }}",
    # Macros.
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(c=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m() %}{{ s }}{% set s = 'in' %}{{ s }}{% endmacro %}{{ m() }}{{ s }}",
    "{% macro m() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ m() }}",
    "{% macro m(x) %}{{ x }}{% if x > 0 %}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %} padded {% endmacro %}[{{ m()|trim }}][{{ m() ~ 'x' }}]",
    "{% macro m(a, b=1, c) %}{% endmacro %}",
    "{% macro m() %}no end",
    "{% macro m %}{% endmacro %}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{% set f = m %}{{ f(5) }}{{ m.name }}",
    "{% macro m() -%}\n  x\n{%- endmacro %}[{{ m() }}]",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m(x) %}{% for i in x %}{{ caller(i) }};{% endfor %}{% endmacro %}{% call(i) m([1, 2]) %}<{{ i }}>{% endcall %}",
    "{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% call n %}{% endcall %}",
    "{% if no %}{% macro m() %}x{% endmacro %}{% endif %}{{ m is defined }}",
    "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro outer() %}{% macro inner(x) %}<{{ x }}>{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}",
    # Other blocks.
    "{% filter upper %}abc {{ s }}{% endfilter %}",
    "{% filter trim|replace('a', 'b') %} aaa {% endfilter %}|",
    "{% filter nosuch %}{% endfilter %}",
    "{% generation %}a{{ n }}{% endgeneration %}b",
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}",
    "{% with a = 1, b = n %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}",
    "{% nosuchtag %}",
    "{% do l %}",
    "{% %}",
    "{% 1 %}",
    "{% if n %}{{ raise_exception('Roles must alternate') }}{% endif %}",
    "{{ raise_exception('a') if no else 'fine' }}",
    # Pieces as they occur in chat templates.
    "{{ bos_token }}{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\n' + (m['content'] if m['content'] is string else m['content'][0].text) | trim + '<|end|>\n' }}{% endfor %}",
    "{%- for message in messages %}\n    {%- if message.role == 'user' %}\n        {{- '[' + message.role + ']' }}\n    {%- endif %}\n{%- endfor %}\n",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ system_message }}{{ loop_messages|length }}",
    "{{ tools is none }}{{ documents is defined }}{{ add_generation_prompt }}",
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 1) %}{{ loop.index0 }}{% endif %}{% endfor %}",
    "{% set c = messages[2].content %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ c }}",
    "{%- macro render(content) -%}{%- if content is string -%}{{ content }}{%- else -%}{%- for part in content -%}{%- if part.type == 'text' -%}{{ part.text }}{%- elif 'image' in part.type -%}<image>{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}{%- for m in messages -%}{{ render(m.content) }}|{%- endfor -%}",
    "{{ messages[::-1][0].role }}{{ (messages|last).role }}{{ (messages|first)['role'] }}",
    "{% for i in range(messages|length - 1, -1, -1) %}{{ messages[i].role[0] }}{% endfor %}",
    "{{ 'x' * 3 ~ '-' * 2 }}",
    "{% set x = {'a': 1} %}{% for k in x %}{{ k }}{{ x[k] }}{% endfor %}",
    "{{ {'name': s, 'arguments': d} | tojson(indent=2) }}",
]

CASES = list(_expressions()) + STATEMENTS

MUTATING = [
    "{% set x = [1] %}{% set _ = x.append(2) %}{{ x }}",
    "{% set x = [] %}{% for i in l %}{{ x.append(i) or '' }}{% endfor %}{{ x }}",
    "{% set x = [1, 2, 3] %}{{ x.pop() }}{{ x.pop(0) }}{{ x }}",
    "{% set x = [] %}{{ x.pop() }}",
    "{% set x = [1, 2] %}{{ x.pop(5) }}",
    "{% set x = [1] %}{% set _ = x.extend([2, 3]) %}{{ x }}",
    "{% set x = [1, 2] %}{% set _ = x.insert(1, 9) %}{% set _ = x.insert(-1, 8) %}{% set _ = x.insert(99, 7) %}{{ x }}",
    "{% set x = {'a': 1} %}{% set _ = x.update({'b': 2}) %}{% set _ = x.update(c=3) %}{{ x }}",
    "{% set x = {'a': 1, 'b': 2} %}{{ x.pop('a') }}{{ x.pop('zz', 5) }}{{ x }}",
    "{% set x = {'a': 1} %}{{ x.pop('zz') }}",
    "{% set x = {} %}{{ x.setdefault('a', 1) }}{{ x.setdefault('a', 2) }}{{ x }}",
    "{% set x = [1] %}{% set y = x %}{% set _ = y.append(2) %}{{ x }}{{ x.copy() }}{{ x.index(2) }}{{ x.count(1) }}",
    "{% set x = {'a': 1} %}{% set y = x.copy() %}{% set _ = y.update(a=2) %}{{ x }}{{ y }}",
]
