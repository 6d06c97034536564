# SPDX-License-Identifier: Apache-2.0
# page.cmake - one man page: what other places say already is taken from there, the rest is the .scd file.
#
#   cmake -DIN=docs/man/NAME.SECTION.scd -DOUT=FILE -DSCDOC=PROGRAM -DKEYS=docs/configuration.md -DPROGRAM=NAME -P page.cmake
#
#   @KEYS@     the table of keys in docs/configuration.md, which a test holds against the code
#   @HELP@     what PROGRAM --help says, between its first lines and its exit status
cmake_minimum_required(VERSION 3.25) # below, "@KEYS@" would be a variable
file(READ ${IN} page)
if(page MATCHES "@KEYS@")
  set(keys "")
  # A list of CMake's would take a ; or a [ in the text for its own.
  file(READ ${KEYS} rest)
  while(rest MATCHES "\n\\| `([a-z_.]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|\n]+) \\|")
    string(LENGTH "${CMAKE_MATCH_0}" length)
    string(FIND "${rest}" "${CMAKE_MATCH_0}" at)
    set(row "*${CMAKE_MATCH_1}* (${CMAKE_MATCH_2}; default: ${CMAKE_MATCH_3})\n\t${CMAKE_MATCH_4}\n\n")
    math(EXPR at "${at} + ${length}")
    string(SUBSTRING "${rest}" ${at} -1 rest)
    # The policy's keys, further down the page, are another manual's; its table has fewer columns.
    string(REPLACE "default: required" "required" row "${row}")
    string(REPLACE "default: none" "optional" row "${row}")
    string(REPLACE "`" "" row "${row}")
    string(REPLACE "_" "\\_" row "${row}")
    string(APPEND keys "${row}")
  endwhile()
  if(NOT keys)
    message(FATAL_ERROR "${KEYS} has no table of keys any more")
  endif()
  string(REPLACE "@KEYS@" "${keys}" page "${page}")
endif()
if(page MATCHES "@HELP@")
  execute_process(COMMAND ${PROGRAM} --help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "\n(Examples|Exit status):.*" "" help "${help}")
  string(STRIP "${help}" help)
  string(REPLACE "@HELP@" "```\n${help}\n```" page "${page}")
endif()
file(WRITE ${OUT}.scd "${page}")
execute_process(COMMAND ${SCDOC} INPUT_FILE ${OUT}.scd OUTPUT_FILE ${OUT} COMMAND_ERROR_IS_FATAL ANY)
